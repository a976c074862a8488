"""The SDK's collections, one module each."""
