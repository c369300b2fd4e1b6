//! Which files a child may open: what it makes in its own folder, if it has one. Its input is a descriptor already. That a file
//! exists, and how large it is, the kernel tells anybody.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

/// Plain files: made, written, read back, shortened.
const OWN: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | WriteFile | MakeReg | Truncate});

/// Forbids every path but the working directory, and that too unless the child writes. Kernels that know them also get
/// the later rules: no TCP, no signals and no abstract sockets beyond this process.
pub(super) fn restrict(writes: bool) -> io::Result<()> {
    let ruleset = ruleset().map_err(io::Error::other)?;
    let ruleset = if writes {
        let here = PathFd::new(".").map_err(io::Error::other)?;
        ruleset
            .add_rule(PathBeneath::new(here, OWN))
            .map_err(io::Error::other)?
    } else {
        ruleset
    };
    match ruleset.restrict_self().map_err(io::Error::other)?.ruleset {
        RulesetStatus::NotEnforced => Err(io::ErrorKind::Unsupported.into()),
        _ => Ok(()),
    }
}

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    // Shortening a file is a right of its own on later kernels only.
    Ok(ruleset.set_compatibility(CompatLevel::BestEffort))
}
