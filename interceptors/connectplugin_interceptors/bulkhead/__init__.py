"""The bulkhead: so many calls at a time, a bounded queue before it, first come first served."""
