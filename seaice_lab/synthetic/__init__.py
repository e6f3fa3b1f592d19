"""An idealised Arctic: weather, ice dynamics and growth."""
