"""SELinux labels of a tree, from the policy that the tree itself contains."""

from cfsctl.boot.selinux.labels import apply_labels, remove_labels
from cfsctl.boot.selinux.policy import Policy, PolicyError, find_policy

__all__ = ["Policy", "PolicyError", "apply_labels", "find_policy", "remove_labels"]
