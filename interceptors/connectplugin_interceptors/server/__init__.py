"""The server's side: what happens to a call before and after its handler."""

from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.server.arrivals import Arrivals
from connectplugin_interceptors.server.cut import CutCalls
from connectplugin_interceptors.server.deadline.config import ServerDeadlinePolicy
from connectplugin_interceptors.server.drain.config import DrainPolicy
from connectplugin_interceptors.server.drain.interceptor import Drain
from connectplugin_interceptors.server.masking.config import MaskingPolicy
from connectplugin_interceptors.server.rate_limit.config import Quota, ServerRateLimitPolicy
from connectplugin_interceptors.server.rate_limit.interceptor import ServerRateLimit
from connectplugin_interceptors.server.stack import ServerChain, ServerStack

__all__ = (
    "Arrivals",
    "BulkheadPolicy",
    "CutCalls",
    "Drain",
    "DrainPolicy",
    "MaskingPolicy",
    "Quota",
    "ServerChain",
    "ServerDeadlinePolicy",
    "ServerRateLimit",
    "ServerRateLimitPolicy",
    "ServerStack",
)
