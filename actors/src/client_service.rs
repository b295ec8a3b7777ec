//! One client service on this node.
