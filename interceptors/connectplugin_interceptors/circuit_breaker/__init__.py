"""The circuit breaker: after enough failures an endpoint is left alone, then asked with care."""
