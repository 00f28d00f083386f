"""What cores cost and how fast they are: measured, predicted, searched, shown."""
