"""Settings for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: no test here is about time.
settings.register_profile("cfsctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cfsctl")
