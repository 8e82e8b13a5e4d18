"""Content objects on their way in: verified, hashed and stored."""
