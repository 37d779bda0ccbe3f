// In place of the theme's script of the same name, 1.6 MB of icons as SVG: its font has them, too.
