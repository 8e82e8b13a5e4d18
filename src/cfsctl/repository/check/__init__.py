"""fsck: findings about objects, links and metadata."""
