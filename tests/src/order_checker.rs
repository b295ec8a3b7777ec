//! Reads the logs of command subsystems and finds steps out of order.
