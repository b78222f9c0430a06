"""The files of finished runs -> pages."""
