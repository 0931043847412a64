//! A run's settings: those of a preset, changed by a TOML file, then by `KEY=VALUE` pairs. The file has the same keys as a run folder's
//! `config.toml` and may leave out any of them.

use super::{Config, Loss};
use crate::error::{Error, Result};
use toml::{Table, Value};

impl Config {
    /// Combines the parts; the preset is the given one, else the file's, else `compact`. For specialists (also if the file has
    /// groups) the epochs and patience of the tutorial's specialists replace the preset's.
    ///
    /// # Errors
    /// An unknown preset or key, a value of the wrong kind, or text that is not TOML.
    pub fn resolve(preset: Option<&str>, specialists: bool, file: Option<&str>, pairs: &[String]) -> Result<Self> {
        let bad = |e: String| Error::Config(e.trim_end().replace('\n', " "));
        let text = file.unwrap_or_default();
        let file: Table = text.parse().map_err(|e: toml::de::Error| {
            let start = e.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
            bad(format!("line {line}: expected TOML: {}", e.message()))
        })?;
        let named = match file.get("preset") {
            None => None,
            Some(Value::String(name)) => Some(name.as_str()),
            Some(other) => return Err(bad(format!("preset: expected a name, found {other}"))),
        };
        let mut base = Self::preset(preset.or(named).unwrap_or("compact"))?;
        if specialists || file.get("groups").and_then(Value::as_table).is_some_and(|groups| !groups.is_empty()) {
            (base.epochs, base.patience) = (0, SPECIALISTS_PATIENCE);
        }
        let mut all = base.table()?;
        merge(&mut all, file);
        if let Some(name) = preset {
            all.insert("preset".into(), name.into());
        }
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| bad(format!("'{pair}': expected KEY=VALUE, such as augment.flip=0")))?;
            if key.trim() == "preset" {
                return Err(bad("the preset decides the other settings: choose it by --preset".into()));
            }
            set(&mut all, key.trim(), value.trim()).map_err(bad)?;
        }
        let config: Self = all.try_into().map_err(|e: toml::de::Error| bad(format!("settings: {e}")))?;
        if config.loss == Loss::Laplace && !config.net.has_heatmaps() {
            return Err(bad(format!("loss laplace: {} has no heatmaps, whose spread it needs", config.preset)));
        }
        Ok(config)
    }

    /// The text of `config.toml` in a run folder.
    ///
    /// # Errors
    /// Only if it cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(e.to_string()))
    }

    /// Checks that every number is one, and that probabilities are: a run with others could be neither finished nor resumed.
    ///
    /// # Errors
    /// The first setting that is not, by its key.
    pub fn check_numbers(&self) -> Result<()> {
        fn not_finite(path: &str, value: &Value) -> Option<String> {
            match value {
                Value::Float(v) if !v.is_finite() => Some(format!("{path}: expected a number, found {v}")),
                Value::Table(all) => all.iter().find_map(|(k, v)| not_finite(&format!("{path}.{k}"), v)),
                Value::Array(all) => all.iter().find_map(|v| not_finite(path, v)),
                _ => None,
            }
        }
        match not_finite("", &Value::Table(self.table()?))
            .map(|why| why.trim_start_matches('.').to_string())
            .or_else(|| self.augment.fault())
        {
            Some(why) => Err(Error::Config(why)),
            None => Ok(()),
        }
    }

    fn table(&self) -> Result<Table> {
        self.to_toml()?.parse().map_err(|e: toml::de::Error| Error::Config(e.to_string()))
    }

    /// The first key whose value differs from another configuration's, with both values: (key, ours, theirs).
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        fn walk(path: &str, a: Option<&Value>, b: Option<&Value>) -> Option<(String, String, String)> {
            if a == b {
                return None;
            }
            if let (Some(Value::Table(a)), Some(Value::Table(b))) = (a, b) {
                let keys = a.keys().chain(b.keys());
                return keys.into_iter().find_map(|k| walk(&format!("{path}.{k}"), a.get(k), b.get(k)));
            }
            let shown = |v: Option<&Value>| v.map_or("nothing".into(), Value::to_string);
            Some((path.trim_start_matches('.').into(), shown(a), shown(b)))
        }
        let table = |config: &Self| config.table().ok().map(Value::Table);
        walk("", table(self).as_ref(), table(other).as_ref())
    }
}

/// Epochs without improvement after which a specialist's training ends, as in the tutorial.
const SPECIALISTS_PATIENCE: usize = 200;

/// Lays one table over another, key by key; a table of another `kind` replaces the old one as a whole.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new))
                if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                merge(old, new);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Sets one value by its dotted key. Anything that is not a number, a truth value, a list or a table is text.
fn set(all: &mut Table, key: &str, value: &str) -> std::result::Result<(), String> {
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.into()));
    let mut table = all;
    let mut words = key.split('.').peekable();
    while let Some(word) = words.next() {
        if words.peek().is_none() {
            let mut over = Table::new();
            over.insert(word.into(), value);
            merge(table, over);
            return Ok(());
        }
        let found = table.get_mut(word).and_then(Value::as_table_mut);
        table = found.ok_or_else(|| format!("no setting '{key}': '{word}' holds no settings"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::optim::Optimizer;
    use super::*;

    fn resolve(preset: Option<&str>, file: &str, pairs: &[&str]) -> Result<Config> {
        Config::resolve(preset, false, Some(file), &pairs.iter().map(|p| p.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn pairs_go_over_the_file_and_the_file_over_the_preset() {
        let file = "preset = 'net4'\nepochs = 7\n[augment]\nflip = 0.25\n[optimizer]\nlr = [0.02, 0.001]\n";
        let config = resolve(None, file, &["epochs=9", "augment.jpeg=1", "optimizer.momentum = [0.5, 0.6]"]).unwrap();
        assert_eq!((config.preset.as_str(), config.epochs, config.batch), ("net4", 9, 128));
        assert_eq!((config.augment.flip, config.augment.jpeg, config.augment.roll), (0.25, 1., 0.));
        let optimizer = Optimizer::Nesterov { lr: [0.02, 0.001], momentum: [0.5, 0.6] };
        assert_eq!(config.optimizer, optimizer);
        assert_eq!(resolve(None, "", &[]).unwrap(), Config::preset("compact").unwrap());
    }

    #[test]
    fn what_was_written_is_read_back() {
        for (name, _) in crate::nets::NetConfig::presets() {
            let config = Config::preset(name).unwrap();
            assert_eq!(Config::resolve(None, false, Some(&config.to_toml().unwrap()), &[]).unwrap(), config);
        }
    }

    #[test]
    fn specialists_have_the_tutorials_patience_and_rule_unless_told_otherwise() {
        let of = |file: &str, flag| Config::resolve(Some("net6"), flag, Some(file), &[]).unwrap();
        let groups = "[groups]\nnose = ['nose_tip']\n";
        assert_eq!((of("", true).epochs, of("", true).patience), (0, 200));
        assert_eq!((of(groups, false).epochs, of(groups, false).patience), (0, 200));
        assert_eq!((of(&format!("epochs = 5\n{groups}"), true).epochs, of("[groups]", false).epochs), (5, 3000));
    }

    #[test]
    fn another_kind_replaces_the_whole_table() {
        let adam = "optimizer = {kind='adam_w', lr=1e-3, weight_decay=0, warmup=0.1}";
        let config = resolve(Some("net2"), "", &[adam]).unwrap();
        assert_eq!(config.optimizer, Optimizer::AdamW { lr: 1e-3, weight_decay: 0., warmup: 0.1 });
    }

    #[test]
    fn unknown_keys_and_values_of_the_wrong_kind_are_named() {
        let error = |file: &str, pairs: &[&str]| resolve(None, file, pairs).unwrap_err().to_string();
        assert!(error("epoch = 3", &[]).contains("unknown field `epoch`"), "{}", error("epoch = 3", &[]));
        assert!(error("[augment]\nflop = 3", &[]).contains("unknown field `flop`"));
        assert!(error("[optimizer]\nrate = 3", &[]).contains("unknown field `rate`"));
        assert!(error("", &["augment.flop=1"]).contains("unknown field `flop`"));
        assert!(error("", &["flip.much=1"]).contains("no setting 'flip.much'"));
        assert!(error("", &["flip"]).contains("expected KEY=VALUE"));
        assert!(error("", &["epochs=many"]).contains("epochs"), "{}", error("", &["epochs=many"]));
        assert!(error("preset = 'net9'", &[]).contains("no net 'net9'"));
        assert!(error("epochs = = 3", &[]).contains("line 1"));
        let laplace = resolve(Some("net2"), "", &["loss=laplace"]).unwrap_err().to_string();
        assert!(laplace.contains("loss laplace: net2 has no heatmaps"), "{laplace}");
        assert_eq!(resolve(None, "", &["loss=smooth_l1"]).unwrap().loss, Loss::SmoothL1);
    }

    #[test]
    fn every_number_is_one_and_probabilities_are() {
        let told = |pair: &str| resolve(None, "", &[pair]).unwrap().check_numbers().err().map(|e| e.to_string());
        assert_eq!(told("augment.flip=nan").unwrap(), "augment.flip: expected a number, found NaN");
        assert_eq!(told("seconds=inf").unwrap(), "seconds: expected a number, found inf");
        assert_eq!(told("augment.flip=7").unwrap(), "augment.flip: expected a probability from 0 to 1, found 7");
        let falling = "augment.jpeg_quality: expected two rising numbers from 1 to 100, found [90, 20]";
        assert_eq!(told("augment.jpeg_quality=[90, 20]").unwrap(), falling);
        assert_eq!(told("augment.roll=30"), None);
    }

    #[test]
    fn a_difference_is_named_with_both_values() {
        let (a, mut b) = (Config::preset("net2").unwrap(), Config::preset("net2").unwrap());
        assert_eq!(a.difference(&b), None);
        b.augment.flip = 0.5;
        assert_eq!(a.difference(&b), Some(("augment.flip".into(), "0.0".into(), "0.5".into())));
    }
}
