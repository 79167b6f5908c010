//! Names of environment variables that only the platform sets: one list for guests, secrets and the `.env` files of
//! templates.
//!
//! An agent's image runs an interpreter, a shell and Git. Of some variables these load code, or run a program that the
//! value names, before a line of the agent's own runs; who may set such a variable of an agent acts as the agent, with all
//! of its secrets. Variables that only configure (`PYTHONUNBUFFERED`, `GIT_AUTHOR_NAME`, `NPM_CONFIG_REGISTRY`) are free.

/// Set by the platform in every workspace, or read by an agent to find it.
const PLATFORM: &[&str] = &[
    "MOLECULE_URL",
    "PATH",
    "PLATFORM_URL",
    "PLUGINS_DIR",
    "PYTHONPATH",
    "WORKSPACE_CONFIG_PATH",
    "WORKSPACE_ID",
];

/// Load code or name programs, by the manuals of the programs that read them.
const LOADS_CODE: &[&str] = &[
    // Shells.
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "IFS",
    "PROMPT_COMMAND",
    "PS4",
    "SHELLOPTS",
    "ZDOTDIR",
    // The C library beside its loader (`LD_*`).
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "LOCPATH",
    "NLSPATH",
    // OpenSSL loads engines and providers.
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    // Python.
    "PYTHONBREAKPOINT",
    "PYTHONEXECUTABLE",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    // Node and what stands in for it.
    "BUN_OPTIONS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "NPM_CONFIG_NODE_OPTIONS",
    "NPM_CONFIG_SCRIPT_SHELL",
    "NPM_CONFIG_SHELL",
    // Perl, Ruby, PHP, Lua, R.
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5SHELL",
    "PERLLIB",
    "BUNDLE_GEMFILE",
    "GEM_HOME",
    "GEM_PATH",
    "RUBYLIB",
    "RUBYOPT",
    "RUBYSHELL",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "R_PROFILE",
    "R_PROFILE_USER",
    // Java and .NET.
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "DOTNET_STARTUP_HOOKS",
    // Git.
    "GIT_ASKPASS",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_PROXY_COMMAND",
    "GIT_SEQUENCE_EDITOR",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_TEMPLATE_DIR",
    // What other programs start for a person.
    "BROWSER",
    "EDITOR",
    "LESSCLOSE",
    "LESSOPEN",
    "MANPAGER",
    "PAGER",
    "SSH_ASKPASS",
    "VISUAL",
];

/// The same by prefix: loaders, Git's configuration (`core.sshCommand`, aliases), Lua by version, profilers of .NET.
const LOADS_CODE_PREFIXES: &[&str] =
    &["LD_", "DYLD_", "GIT_CONFIG", "LUA_INIT", "LUA_PATH", "LUA_CPATH", "CORECLR_"];

/// What guests may not set besides. An operator has honest uses for most; a guest's plan brings the file that such a
/// variable names as well.
const NOT_BY_GUESTS: &[&str] = &[
    // The platform sets these for some workspaces, or the image does.
    "ADAPTER_MODULE",
    "ADMIN_TOKEN",
    "HOME",
    "HOSTNAME",
    "SHELL",
    // Files of settings that name programs or options: Git (like `HOME`), npm, pip, wget, curl, Kerberos, R.
    "CURL_HOME",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "KRB5_CONFIG",
    "NPM_CONFIG_GLOBALCONFIG",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_USERCONFIG",
    "PIP_CONFIG_FILE",
    "R_ENVIRON",
    "R_ENVIRON_USER",
    "WGETRC",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "YARN_YARN_PATH",
    // Options that run or load something.
    "CARGO_HOME",
    "DOTNET_ADDITIONAL_DEPS",
    "ERL_AFLAGS",
    "ERL_FLAGS",
    "ERL_ZFLAGS",
    "GNUMAKEFLAGS",
    "GOFLAGS",
    "MAKEFILES",
    "MAKEFLAGS",
    "PYTEST_ADDOPTS",
    "PYTEST_PLUGINS",
    "RSYNC_RSH",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "SSH_SK_PROVIDER",
    "SVN_SSH",
    "TAR_OPTIONS",
    // Turn or record traffic, with the secrets in it.
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_NO_VERIFY",
    "HOSTALIASES",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "REQUESTS_CA_BUNDLE",
    "SSLKEYLOGFILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// The same by prefix: names of the platform, by which a guest would speak for it.
const NOT_BY_GUESTS_PREFIXES: &[&str] = &["MOLECULE_", "ISOMER_", "AWARENESS_"];

/// Whether a text can be the name of a variable: `[A-Za-z_][A-Za-z0-9_]*`.
#[must_use]
pub fn is_env_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether only the platform may set this variable.
#[must_use]
pub fn is_reserved_env(name: &str) -> bool {
    PLATFORM.contains(&name) || loads_code(name)
}

/// Whether programs load code by this variable, or run a program that it names.
#[must_use]
pub fn loads_code(name: &str) -> bool {
    LOADS_CODE.contains(&name)
        || LOADS_CODE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        // npm reads its settings in any case of the letters.
        || is_of_npm(name) && LOADS_CODE.contains(&name.to_ascii_uppercase().as_str())
}

fn is_of_npm(name: &str) -> bool {
    name.get(.."npm_config_".len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case("npm_config_"))
}

/// Whether a guest may not set this variable, in any case of its letters: all that is reserved, and the names of the
/// platform.
#[must_use]
pub fn is_reserved_from_guests(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    is_reserved_env(&upper)
        || NOT_BY_GUESTS.contains(&upper.as_str())
        || NOT_BY_GUESTS_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_code_or_is_the_platforms_is_reserved() {
        for name in [
            "PATH",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "LD_PRELOAD",
            "LD_AUDIT",
            "DYLD_INSERT_LIBRARIES",
            "NODE_OPTIONS",
            "BASH_ENV",
            "ENV",
            "IFS",
            "PERL5OPT",
            "RUBYOPT",
            "_JAVA_OPTIONS",
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_KEY_0",
            "GCONV_PATH",
            "npm_config_node_options",
            "NPM_config_script_shell",
            "LUA_INIT_5_4",
            "WORKSPACE_ID",
        ] {
            assert!(is_reserved_env(name) && is_reserved_from_guests(name), "{name}");
        }
        for name in [
            "MODEL",
            "ANTHROPIC_API_KEY",
            "GIT_AUTHOR_NAME",
            "GIT_COMMITTER_EMAIL",
            "PYTHONUNBUFFERED",
            "NODE_ENV",
            "NPM_CONFIG_REGISTRY",
            "LDAP_URL",
            "ENVIRONMENT",
            "PATH_",
            "JAVA_HOME",
            "GITHUB_TOKEN",
            "TMPDIR",
        ] {
            assert!(!is_reserved_env(name) && !is_reserved_from_guests(name), "{name}");
        }
        for name in [
            "HOME",
            "MOLECULE_ENV",
            "isomer_x",
            "path",
            "ld_preload",
            "XDG_CONFIG_HOME",
            "GIT_DIR",
            "TAR_OPTIONS",
            "npm_config_userconfig",
            "https_proxy",
            "SSL_CERT_FILE",
        ] {
            assert!(!is_reserved_env(name) && is_reserved_from_guests(name), "{name}");
        }
    }

    #[test]
    fn names_by_table() {
        for name in ["A", "_", "a1", "OPENAI_API_KEY"] {
            assert!(is_env_name(name), "{name}");
        }
        for name in ["", "1A", "A-B", "A B", "A=B", "É", "A\n", "A\0"] {
            assert!(!is_env_name(name), "{name:?}");
        }
    }
}
