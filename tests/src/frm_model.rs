//! Model of the Fenced Register Machine for the model checker.
