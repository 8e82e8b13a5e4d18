"""Places to pull from: web servers, directories, stored commits."""
