//! Why a command failed, and its exit code (architecture §5).

/// A failed command.
#[derive(Debug)]
pub struct Exit {
    /// Exit code of the contract.
    pub code: u8,
    /// What is wrong; causes follow, a line each.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Exit {
    /// A plain error.
    pub fn error(text: impl Into<String>) -> Self {
        Self::code(1, text)
    }

    /// An error with a code of the contract.
    pub fn code(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it, and gives the code.
    #[must_use]
    pub fn report(&self) -> u8 {
        let style = anstyle::AnsiColor::Red.on_default().bold();
        anstream::eprintln!("{style}error{style:#}: {}", self.text);
        if let Some(hint) = &self.hint {
            anstream::eprintln!("  hint: {hint}");
        }
        self.code
    }
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        let mut causes = error.chain();
        let mut text = causes.next().map(ToString::to_string).unwrap_or_default();
        for cause in causes {
            text += &format!("\n  caused by: {cause}");
        }
        Self::error(text)
    }
}
