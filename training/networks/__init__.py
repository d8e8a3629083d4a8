"""Networks that are needed for training alone: teachers and the LoRA student."""
