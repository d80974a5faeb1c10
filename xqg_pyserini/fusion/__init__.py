"""How a passage and its generated queries become one vector, and what such vectors are like."""
