"""OCI images: pulled from where they are, stored as streams, and turned into trees and file system images."""
