"""An idealised Arctic or Antarctic: weather, ice dynamics and growth."""
