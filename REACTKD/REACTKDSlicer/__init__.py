"""REACTKD inside Slicer: MRML nodes in, MRML nodes out.

``scene_nodes.show_case`` turns a case result into nodes, with the same code in the Slicer
application and on slicer-core; ``offscreen`` and ``pictures`` draw them without the application.
"""
