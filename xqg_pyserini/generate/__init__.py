"""Query generation: from passages to queries in other languages, and what is wrong with them."""
