"""A window that a file can be dragged out of, as out of a file manager: drag.py FILE

Its title says whether it is.
"""

import pathlib
import sys

import gi

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gdk, Gtk  # noqa: E402

uri = pathlib.Path(sys.argv[1]).resolve().as_uri()
window = Gtk.Window(title="A file to drag")
window.set_default_size(120, 120)
window.set_keep_above(True)
window.move(1100, 20)
handle = Gtk.EventBox()
handle.add(Gtk.Label(label="Drag me"))
handle.drag_source_set(Gdk.ModifierType.BUTTON1_MASK, [], Gdk.DragAction.COPY)
handle.drag_source_add_uri_targets()
handle.connect("drag-data-get", lambda _widget, _context, data, _info, _time: data.set_uris([uri]))
handle.connect("drag-begin", lambda _widget, _context: window.set_title("A file in hand"))
window.add(handle)
window.show_all()
Gtk.main()
