"""Arms: the same load through different clients and servers."""
