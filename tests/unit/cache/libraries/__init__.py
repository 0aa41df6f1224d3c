"""What programs do with the objects of libraries, on what they made and on hits. ``make libraries`` installs them."""
