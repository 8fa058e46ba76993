"""The window: pictures over HTTP, answers back."""
