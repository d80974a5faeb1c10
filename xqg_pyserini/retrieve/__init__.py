"""From texts to runs: encode, accumulate, index, search, sweep."""
