"""What goes into a version's folder, and what it must show before it is published."""
