"""One file per experiment; docs/fields.md explains every field."""
