"""An order from request to books, and everything else that changes them."""
