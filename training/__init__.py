"""Training and evaluation of REACTKD's networks. Imports REACTKDLib; nothing imports it."""
