//! Test harness of Phalanx: model checks, scenarios, clusters in one process and in many.
