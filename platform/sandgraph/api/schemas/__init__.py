"""What clients send and get, as strict schemas; they are not the domain's classes, nor the store's tables."""
