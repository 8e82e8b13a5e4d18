"""Convert commits to file system trees and back."""
