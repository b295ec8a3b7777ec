//! A limit with a name on everything that is fed from outside.

/// Nodes a cluster can have; a disk is formatted for at most this many (protocol §2).
pub const NODES_MAX: usize = 256;
/// Nodes a disk is formatted for if nothing else is said.
pub const NODES_DEFAULT: usize = 16;
/// Client services a disk is formatted for if nothing else is said.
pub const SERVICES_DEFAULT: usize = 1000;
/// Client services a disk can be formatted for.
pub const SERVICES_MAX: usize = 100_000;
/// Subsystem levels of one node.
pub const LEVELS_MAX: usize = 32;
/// Barriers of one level and kind of transition.
pub const BARRIERS_MAX: u8 = 16;
/// Pills in one node register (protocol §2).
pub const PILLS_MAX: usize = 64;
/// Bytes of a node, service, subsystem or cluster name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of the reason of a leave in the membership record; the size of its area counts on it (protocol §2, "Sizes").
pub const REASON_BYTES_MAX: usize = 256;
/// Bytes of an address `host:port`: the longest host name and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;
/// A graceful leave that takes longer is cut short if nothing else is said, in milliseconds.
pub const SHUTDOWN_MS_DEFAULT: u64 = 300_000;
/// Fence methods of one node.
pub const FENCE_METHODS_MAX: usize = 4;
/// Parameters of all fence methods of one node together.
pub const FENCE_PARAMETERS_MAX: usize = 16;
/// Bytes of all agent names, parameter names and values of one node; the size of the configuration area counts on it.
pub const FENCE_BYTES_MAX: usize = 1024;
/// Changes of the configuration that wait on one node for the master.
pub const REQUESTS_WAITING_MAX: usize = 64;
/// Bytes of one frame on the interconnect before encryption.
pub const PEER_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one frame before the peer has proved that it knows the cluster key.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Bytes of one request or answer on the local socket.
pub const LOCAL_FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages waiting for one peer; beyond it the oldest heartbeat goes, then the connection.
pub const PEER_QUEUE_MAX: usize = 1024;
/// Bytes of the messages waiting for one peer; treated alike.
pub const PEER_QUEUE_BYTES_MAX: usize = 16 * PEER_FRAME_BYTES_MAX;
/// Incoming connections whose peer has not yet proved who it is; beyond it the oldest goes.
pub const HANDSHAKES_MAX: usize = NODES_MAX;
/// Bytes of one command line of a service or subsystem.
pub const COMMAND_BYTES_MAX: usize = 4096;
/// Retries of a command within one operation, bad monitors in a row, and restarts in place that can be asked for.
pub const RETRIES_MAX: u16 = 100;
/// Lines of a service's output that are shown.
pub const OUTPUT_LINES_MAX: usize = 20;
/// Transitions kept for `phalanx trace`.
pub const TRACES_KEPT_MAX: usize = 256;
/// Steps kept of one of them; of a transition that is restarted for ever the first ones go.
pub const TRACE_STEPS_MAX: usize = 2 * LEVELS_MAX * BARRIERS_MAX as usize;
/// Steps and acknowledgements kept of all of them together: some 2 MiB. The oldest transitions go, the newest stays whatever it has.
pub const TRACE_TIMES_KEPT_MAX: usize = 32 * 1024;
/// A node that has not answered by then is missing from a merged trace, in milliseconds.
pub const TRACE_ANSWER_MS: u64 = 1_000;
/// Log lines that a node keeps in memory for `phalanx logs`.
pub const LOG_LINES_KEPT_MAX: usize = 2_000;
/// Bytes of these lines.
pub const LOG_BYTES_KEPT_MAX: usize = 1024 * 1024;
/// Log lines waiting for stderr; beyond it new ones are dropped and counted.
pub const LOG_QUEUE_MAX: usize = 1_024;
/// Different log lines whose repeats are counted.
pub const LOG_REPEATS_MAX: usize = 256;
/// Programs outside the node that are connected as subsystems, registered or not.
pub const SUBSYSTEM_CLIENTS_MAX: usize = 2 * LEVELS_MAX;
/// Bytes of one line that such a program may send.
pub const SUBSYSTEM_LINE_BYTES_MAX: usize = 64 * 1024;
/// Lines that such a program may send within one second.
pub const SUBSYSTEM_LINES_PER_SECOND_MAX: u32 = 1_000;
/// Lines that wait for such a program to read them; one that is further behind is treated as dead.
pub const SUBSYSTEM_LINES_WAITING_MAX: usize = 64;
/// Events of a cluster.
pub const EVENTS_MAX: usize = 10_000;
/// Event groups of a cluster.
pub const EVENT_GROUPS_MAX: usize = 10_000;
/// IN parameters of an event, and OUT parameters of a watcher.
pub const EVENT_PARAMETERS_MAX: usize = 32;
/// Bytes of one value of a parameter; longer OUT values are cut.
pub const EVENT_VALUE_BYTES_MAX: usize = 4_096;
/// Occurrences that a node keeps in memory for `phalanx event tail`.
pub const OCCURRENCES_KEPT_MAX: usize = 1_000;
/// Occurrences that wait on one node until it has its lease; the oldest are given up beyond it.
pub const OCCURRENCES_WAITING_MAX: usize = 1_000;
