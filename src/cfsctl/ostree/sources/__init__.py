"""Sources of a pull: web servers, directories, stored commits."""
