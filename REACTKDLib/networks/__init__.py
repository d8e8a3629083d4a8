"""The networks: CBAM3D attention and the student."""
