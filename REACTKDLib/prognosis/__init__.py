"""Prognosis of chronic liver disease from CT, radiomics and clinical variables (TMI-CLNet)."""
