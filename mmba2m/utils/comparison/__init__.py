"""Two runs side by side: their predictions for the images of one test set."""
