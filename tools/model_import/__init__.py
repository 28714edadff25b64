"""What tools/import_model.py is made of."""
