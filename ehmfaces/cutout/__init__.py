"""From a picture to the soft alpha of the person in it."""
