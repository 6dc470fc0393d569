"""The wire as the reference states it, written down a second time and by hand.

Fields are "number name type" with the types s(tring), y (bytes), b(ool), i(nt32), l (int64),
u (uint64), m (map of strings), or the name of a message or an enum; a leading * means repeated.
"""

CORE = "connectplugin.v1"
HEALTH = "connectplugin.health.v1"
GRPC_HEALTH = "grpc.health.v1"
RPC = "google.rpc"

_HEALTH_REPORT = "1 state HealthState, 2 reason s, 3 unavailable_dependencies *s"

MESSAGES = {
    f"{CORE}.HandshakeRequest": "1 core_protocol_version i, 2 app_protocol_version i,"
    " 3 magic_cookie_key s, 4 magic_cookie_value s, 5 requested_plugins *s, 6 client_metadata m,"
    " 10 self_id s, 11 self_version s, 100 app_protocol_versions *i, 101 instance_nonce s,"
    " 102 descriptor_sha256 y, 103 required_capabilities *s",
    f"{CORE}.HandshakeResponse": "1 core_protocol_version i, 2 app_protocol_version i,"
    " 3 plugins *PluginInfo, 4 server_metadata m, 5 host_capabilities *Capability,"
    " 10 runtime_id s, 11 runtime_token s, 100 supported_versions *i, 101 token_expires_at l,"
    " 102 instance_id s, 103 lease_seconds i",
    f"{CORE}.PluginInfo": "1 name s, 2 version s, 3 service_path s,"
    " 10 provides *ServiceDeclaration, 11 requires *ServiceDependency, 100 capabilities *s",
    f"{CORE}.Capability": "1 type s, 2 version s, 3 endpoint s",
    f"{CORE}.ServiceDeclaration": "1 type s, 2 version s, 3 path s",
    f"{CORE}.ServiceDependency": "1 type s, 2 min_version s, 3 required_for_startup b,"
    " 4 watch_for_changes b",
    f"{CORE}.GetPluginInfoRequest": "",
    f"{CORE}.GetPluginInfoResponse": "1 self_id s, 2 self_version s,"
    " 3 provides *ServiceDeclaration, 4 requires *ServiceDependency, 5 metadata m",
    f"{CORE}.SetRuntimeIdentityRequest": "1 runtime_id s, 2 runtime_token s, 3 host_url s",
    f"{CORE}.SetRuntimeIdentityResponse": "1 acknowledged b",
    f"{CORE}.ReportHealthRequest": _HEALTH_REPORT,
    f"{CORE}.ReportHealthResponse": "",
    f"{CORE}.GetHealthRequest": "",
    f"{CORE}.GetHealthResponse": _HEALTH_REPORT + ", 100 in_flight i",
    f"{CORE}.ShutdownRequest": "1 grace_period_seconds i, 2 reason s",
    f"{CORE}.ShutdownResponse": "1 acknowledged b",
    f"{CORE}.RegisterServiceRequest": "1 service_type s, 2 version s, 3 endpoint_path s,"
    " 4 metadata m",
    f"{CORE}.RegisterServiceResponse": "1 registration_id s, 100 lease_ttl_seconds i",
    f"{CORE}.UnregisterServiceRequest": "1 registration_id s",
    f"{CORE}.UnregisterServiceResponse": "",
    f"{CORE}.DiscoverServiceRequest": "1 service_type s, 2 min_version s",
    f"{CORE}.DiscoverServiceResponse": "1 endpoint ServiceEndpoint, 2 single_provider b",
    f"{CORE}.WatchServiceRequest": "1 service_type s",
    f"{CORE}.WatchServiceEvent": "1 service_type s, 2 state ServiceState,"
    " 3 endpoint ServiceEndpoint, 100 revision u",
    f"{CORE}.ServiceEndpoint": "1 provider_id s, 2 version s, 3 endpoint_url s, 4 metadata m",
    f"{CORE}.RequestCapabilityRequest": "1 capability_type s, 2 min_version s, 3 reason s",
    f"{CORE}.RequestCapabilityResponse": "1 grant CapabilityGrant",
    f"{CORE}.CapabilityGrant": "1 grant_id s, 2 endpoint_url s, 3 bearer_token s,"
    " 4 capability_type s, 5 version s, 100 expires_at l, 101 scopes *s",
    f"{HEALTH}.HealthCheckRequest": "1 service s",
    f"{HEALTH}.HealthCheckResponse": "1 status ServingStatus",
    f"{GRPC_HEALTH}.HealthCheckRequest": "1 service s",
    f"{GRPC_HEALTH}.HealthCheckResponse": "1 status ServingStatus",
    f"{RPC}.RetryInfo": "1 retry_delay Duration",
    f"{RPC}.ErrorInfo": "1 reason s, 2 domain s, 3 metadata m",
}

ENUMS = {
    f"{CORE}.HealthState": {
        "HEALTH_STATE_UNSPECIFIED": 0,
        "HEALTH_STATE_HEALTHY": 1,
        "HEALTH_STATE_DEGRADED": 2,
        "HEALTH_STATE_UNHEALTHY": 3,
    },
    f"{CORE}.ServiceState": {
        "SERVICE_STATE_UNSPECIFIED": 0,
        "SERVICE_STATE_AVAILABLE": 1,
        "SERVICE_STATE_UNAVAILABLE": 2,
        "SERVICE_STATE_DEGRADED": 3,
    },
    f"{HEALTH}.ServingStatus": {
        "SERVING_STATUS_UNSPECIFIED": 0,
        "SERVING_STATUS_SERVING": 1,
        "SERVING_STATUS_NOT_SERVING": 2,
        "SERVING_STATUS_SERVICE_UNKNOWN": 3,
    },
    f"{GRPC_HEALTH}.HealthCheckResponse.ServingStatus": {
        "UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    },
}

# Method -> request, response, both without their package; a trailing + marks a stream.
SERVICES = {
    f"{CORE}.HandshakeService": {"Handshake": ("HandshakeRequest", "HandshakeResponse")},
    f"{CORE}.PluginIdentity": {
        "GetPluginInfo": ("GetPluginInfoRequest", "GetPluginInfoResponse"),
        "SetRuntimeIdentity": ("SetRuntimeIdentityRequest", "SetRuntimeIdentityResponse"),
    },
    f"{CORE}.PluginLifecycle": {"ReportHealth": ("ReportHealthRequest", "ReportHealthResponse")},
    f"{CORE}.PluginControl": {
        "GetHealth": ("GetHealthRequest", "GetHealthResponse"),
        "Shutdown": ("ShutdownRequest", "ShutdownResponse"),
    },
    f"{CORE}.PluginController": {
        "Handshake": ("HandshakeRequest", "HandshakeResponse"),
        "Shutdown": ("ShutdownRequest", "ShutdownResponse"),
        "Health": ("GetHealthRequest", "GetHealthResponse"),
    },
    f"{CORE}.ServiceRegistry": {
        "RegisterService": ("RegisterServiceRequest", "RegisterServiceResponse"),
        "UnregisterService": ("UnregisterServiceRequest", "UnregisterServiceResponse"),
        "DiscoverService": ("DiscoverServiceRequest", "DiscoverServiceResponse"),
        "WatchService": ("WatchServiceRequest", "WatchServiceEvent+"),
    },
    f"{CORE}.CapabilityBroker": {
        "RequestCapability": ("RequestCapabilityRequest", "RequestCapabilityResponse"),
    },
    f"{HEALTH}.HealthService": {
        "Check": ("HealthCheckRequest", "HealthCheckResponse"),
        "Watch": ("HealthCheckRequest", "HealthCheckResponse+"),
    },
    f"{GRPC_HEALTH}.Health": {
        "Check": ("HealthCheckRequest", "HealthCheckResponse"),
        "Watch": ("HealthCheckRequest", "HealthCheckResponse+"),
    },
}
