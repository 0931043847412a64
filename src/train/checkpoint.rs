//! The state of a run, and the file that holds it: safetensors with the weights, their running average, the optimizer's
//! moments, and the history as JSON metadata.

use super::{rng, Config, Epoch};
use crate::error::{Error, Result};
use crate::nets::model::Model;
use crate::nets::vars::Parameter;
use crate::weights::Weights;
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Everything that changes during a run.
pub struct State {
    /// The net with its weights.
    pub model: Model,
    /// The weights' running average, in the order of `model.vars`.
    pub average: Vec<Vec<f32>>,
    /// The optimizer's moments, in the order of `model.vars`; none for weights that are not trained.
    pub moments: Vec<Vec<Vec<f32>>>,
    /// Steps taken so far.
    pub step: u64,
    /// Epochs completed so far.
    pub history: Vec<Epoch>,
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

impl State {
    /// The state before the first step: weights from the seed, or from the weights file that the configuration names.
    ///
    /// # Errors
    /// A net whose sizes do not fit together, or a weights file that does not fit it.
    pub fn new(config: &Config, keypoints: usize) -> Result<Self> {
        // No epoch has this number, so the initial weights have a random stream of their own.
        let model = Model::new(&config.net, keypoints, &mut rng(config.seed, usize::MAX >> 34, 0))?;
        if !config.init.is_empty() {
            model.init_from(&Weights::read(Path::new(&config.init))?)?;
        }
        let average = model.vars.iter().map(|(_, v)| values(v.as_tensor())).collect::<Result<_>>()?;
        let moments = model.vars.iter().map(|(p, _)| {
            let n = if p.trained() { config.optimizer.moments() } else { 0 };
            vec![vec![0f32; p.shape.iter().product()]; n]
        });
        Ok(Self { moments: moments.collect(), average, model, step: 0, history: vec![] })
    }

    /// Calls [`Model::settle`] and restarts the running average from there.
    pub(super) fn settle(&mut self, pictures: &Tensor) -> Result<()> {
        self.model.settle(pictures)?;
        self.average = self.model.vars.iter().map(|(_, v)| values(v.as_tensor())).collect::<Result<_>>()?;
        Ok(())
    }

    /// Moves the running average towards the weights; faster in the first steps, so that the initial weights are forgotten.
    pub(super) fn move_average(&mut self, decay: f32) -> Result<()> {
        if decay <= 0. {
            return Ok(());
        }
        let decay = decay.min((1. + self.step as f32) / (10. + self.step as f32));
        for ((_, var), average) in self.model.vars.iter().zip(&mut self.average) {
            for (a, v) in average.iter_mut().zip(values(var.as_tensor())?) {
                *a += (1. - decay) * (v - *a);
            }
        }
        Ok(())
    }

    /// A copy of the current state, to write later.
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn copy(&self) -> Result<Self> {
        Ok(Self {
            model: self.averaged(0.)?,
            average: self.average.clone(),
            moments: self.moments.clone(),
            step: self.step,
            history: self.history.clone(),
        })
    }

    /// The net with its averaged weights (or the weights themselves, if no average is kept).
    ///
    /// # Errors
    /// Only errors of candle itself.
    pub fn averaged(&self, decay: f32) -> Result<Model> {
        let mut i = 0;
        Model::with(&self.model.config, self.model.keypoints, |_| {
            i += 1;
            if decay > 0. {
                Ok(self.average[i - 1].clone())
            } else {
                values(self.model.vars[i - 1].1.as_tensor())
            }
        })
    }

    /// Writes the file under a temporary name first, so that a full disk or a kill leaves the old one intact.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, path: &Path, config: &Config) -> Result<()> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut add = |kind: &str, p: &Parameter, data: Vec<f32>| -> Result<()> {
            tensors.push((format!("{kind}/{}", p.name), Tensor::from_vec(data, p.shape.as_slice(), &Device::Cpu)?));
            Ok(())
        };
        for (i, (p, var)) in self.model.vars.iter().enumerate() {
            add("weight", p, values(var.as_tensor())?)?;
            add("average", p, self.average[i].clone())?;
            for (m, moment) in self.moments[i].iter().enumerate() {
                add(&format!("moment{m}"), p, moment.clone())?;
            }
        }
        let history = serde_json::to_string(&self.history).map_err(|e| Error::Config(e.to_string()))?;
        let meta = HashMap::from([
            ("config".to_string(), config.to_toml()?),
            ("step".into(), self.step.to_string()),
            ("history".into(), history),
        ]);
        let bytes = safetensors::serialize(tensors.iter().map(|(n, t)| (n, t)), Some(meta));
        write_atomically(path, &bytes.map_err(|e| Error::Config(e.to_string()))?)
    }

    /// The epochs in a file written by [`State::save`].
    ///
    /// # Errors
    /// A file that is missing, truncated or no checkpoint, named.
    pub fn history(path: &Path) -> Result<Vec<Epoch>> {
        let bad = |what: String| Error::Config(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let meta = metadata(&bytes).map_err(bad)?;
        let history = meta.get("history").ok_or_else(|| bad("not a checkpoint".into()))?;
        serde_json::from_str(history).map_err(|e| bad(format!("history: {e}")))
    }

    /// Reads a file written by [`State::save`].
    ///
    /// # Errors
    /// A file that is missing, truncated, or of another configuration, named.
    pub fn load(path: &Path, config: &Config, keypoints: usize) -> Result<Self> {
        let bad = |what: String| Error::Config(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let meta = metadata(&bytes).map_err(bad)?;
        let text = |key: &str| meta.get(key).ok_or_else(|| bad(format!("'{key}' is missing: not a checkpoint")));
        let saved =
            Config::resolve(None, false, Some(text("config")?), &[]).map_err(|e| bad(format!("config: {e}")))?;
        // These may differ: the end of a run does not change its numbers, and the device changes only their last digits.
        let (seconds, patience, device) = (config.seconds, config.patience, config.device.clone());
        // The data's path may differ too; whoever reads the data checks that its content is the same.
        let (data, content) = (config.data.clone(), config.content.clone());
        let saved = Config { seconds, patience, device, data, content, ..saved };
        if let Some((key, ours, theirs)) = config.difference(&saved) {
            let how = match key.as_str() {
                "epochs" => "; its schedule ends there: for more, begin another run with train --init and this run's best.safetensors",
                _ => "",
            };
            return Err(bad(format!("was trained with {key} = {theirs}, the run's settings say {ours}{how}")));
        }
        let step = text("step")?.parse().map_err(|e| bad(format!("step: {e}")))?;
        let history = serde_json::from_str(text("history")?).map_err(|e| bad(format!("history: {e}")))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| bad(e.to_string()))?;
        let take = |kind: &str, p: &Parameter| match tensors.get(&format!("{kind}/{}", p.name)) {
            Some(t) if t.dims() == p.shape => values(t),
            Some(t) => Err(bad(format!("{kind}/{}: expected shape {:?}, found {:?}", p.name, p.shape, t.dims()))),
            None => Err(bad(format!("{kind}/{} is missing: the checkpoint is of another configuration", p.name))),
        };
        let model = Model::with(&config.net, keypoints, |p| take("weight", p))?;
        let average = model.vars.iter().map(|(p, _)| take("average", p)).collect::<Result<_>>()?;
        let moments = model.vars.iter().map(|(p, _)| {
            let n = if p.trained() { config.optimizer.moments() } else { 0 };
            (0..n).map(|m| take(&format!("moment{m}"), p)).collect::<Result<Vec<_>>>()
        });
        Ok(Self { moments: moments.collect::<Result<_>>()?, average, model, step, history })
    }
}

/// What a checkpoint says of itself, or why it is none.
fn metadata(bytes: &[u8]) -> std::result::Result<HashMap<String, String>, String> {
    let read =
        safetensors::SafeTensors::deserialize(bytes).and_then(|_| safetensors::SafeTensors::read_metadata(bytes));
    let (_, header) =
        read.map_err(|e| format!("expected a whole checkpoint, found one that is cut off or damaged ({e})"))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

/// Writes a file completely or not at all. If it is a link, its target is written, even one that is not there yet, and the link stays; a
/// file that is replaced keeps its permissions. Devices and pipes are written directly, because nothing can replace them.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let shown = path;
    let path = &target(path);
    let meta = path.metadata().ok();
    if meta.as_ref().is_some_and(|meta| !meta.is_file() && !meta.is_dir()) {
        let write = || std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
        return write().map_err(Error::io(shown));
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(TEMPORARY);
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        if let Some(meta) = meta.filter(std::fs::Metadata::is_file) {
            file.set_permissions(meta.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        Error::io(shown)(e)
    })
}

/// Ends the name of a file that is being written: no name that anybody else gives, and always the same, so that what a killed program
/// leaves is replaced.
const TEMPORARY: &str = ".face96-tmp";

/// Where a link leads, or the path itself.
fn target(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(link) = path.read_link() else { break };
        path = path.parent().unwrap_or(Path::new("")).join(link);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_checkpoint_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.ckpt");
        let tensor = Tensor::zeros(9, candle_core::DType::F32, &Device::Cpu).unwrap();
        let bytes = safetensors::serialize([("a", &tensor)], None).unwrap();
        for end in [4, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let error = State::history(&path).unwrap_err().to_string();
            assert!(error.contains("last.ckpt: expected a whole checkpoint, found one that is cut off"), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn writing_keeps_links_permissions_and_the_files_beside() {
        use std::os::unix::fs::{symlink, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("far")).unwrap();
        symlink("far/later.json", path("link")).unwrap();
        write_atomically(&path("link"), b"new").unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(std::fs::read(path("far/later.json")).unwrap(), b"new");
        std::fs::write(path("f.tmp"), "precious").unwrap();
        std::fs::write(path("f"), "old").unwrap();
        std::fs::set_permissions(path("f"), std::fs::Permissions::from_mode(0o600)).unwrap();
        write_atomically(&path("f"), b"new").unwrap();
        assert_eq!(std::fs::read(path("f.tmp")).unwrap(), b"precious");
        assert_eq!(std::fs::metadata(path("f")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
