"""The EROFS image format: building images, reading them back, looking into them."""
