"""Where an order goes: `base` says what a venue is, `paper` simulates one, `alpaca` is a broker."""
