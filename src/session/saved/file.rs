//! The file of caches. All numbers are little-endian.
//!
//! ```text
//! "GENARMKV"  version u32  bytes of the header u32
//! header      JSON: llama.cpp's build, a note, and each model with its origin and the sizes of its states
//! payload     of each state: its tokens, i32 each, then llama.cpp's bytes
//! SHA-256     of all before
//! ```

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Caches, CachesError, ModelCache, VERSION};
#[cfg(feature = "server")]
use crate::expert::StateError;
use crate::expert::{ExpertState, Origin, Token};
use crate::files::write_whole;

const MAGIC: &[u8; 8] = b"GENARMKV";
/// Bytes of a header at most.
const MAX_HEADER: usize = 1 << 20;
/// Bytes of a SHA-256.
const SUM: u64 = 32;

#[derive(Serialize, Deserialize)]
struct Header {
    llama_cpp: String,
    note: Map<String, Value>,
    models: Vec<ModelHeader>,
}

#[derive(Serialize, Deserialize)]
struct ModelHeader {
    who: String,
    origin: Origin,
    /// What it holds, then an earlier state, where there is one.
    states: Vec<StateHeader>,
}

#[derive(Serialize, Deserialize)]
struct StateHeader {
    n_tokens: u64,
    n_plain: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    read_with: Vec<(usize, Vec<f32>)>,
    n_bytes: u64,
}

impl Caches {
    /// Whether a file begins as one of saved caches: another one must not be overwritten.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn is_at(path: &Path) -> io::Result<bool> {
        let mut begin = Vec::new();
        File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
        Ok(begin == MAGIC)
    }

    /// Writes them whole or not at all, for the owner alone to read. Returns the bytes of the file.
    ///
    /// # Errors
    ///
    /// [`CachesError::Io`]; what was there before is unharmed.
    pub fn write(&self, path: &Path) -> Result<u64, CachesError> {
        let mut n_bytes = 0;
        write_whole(path, |temporary| {
            // Its tokens are the text: it is the owner's, as the conversation beside it is.
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(0o600))?;
            }
            let mut out = Sink { file: BufWriter::new(File::create(temporary)?), hash: Sha256::new(), n_bytes: 0 };
            self.fill(&mut out)?;
            let sum = out.hash.finalize();
            out.file.write_all(&sum)?;
            n_bytes = out.n_bytes + SUM;
            out.file.flush()
        })?;
        Ok(n_bytes)
    }

    fn fill(&self, out: &mut Sink) -> io::Result<()> {
        let models = self.models.iter().map(ModelCache::header).collect();
        let header = Header { llama_cpp: self.llama_cpp.clone(), note: self.note.clone(), models };
        let header = serde_json::to_vec(&header)?;
        out.put(MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        out.put(&u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes())?;
        out.put(&header)?;
        for state in self.models.iter().flat_map(ModelCache::states) {
            let tokens: Vec<u8> = state.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
            out.put(&tokens)?;
            out.put(&state.memory)?;
        }
        Ok(())
    }

    /// Reads what [`write`](Self::write) wrote. Nothing of a file that was changed since is returned.
    ///
    /// # Errors
    ///
    /// [`CachesError::Io`], [`CachesError::Foreign`], [`CachesError::Version`], [`CachesError::Damaged`].
    pub fn read(path: &Path) -> Result<Self, CachesError> {
        Self::read_if(path, |_| Ok(()))
    }

    /// The same of a file that the models of `here` can take over, in a context of `n_ctx` tokens. Another one, which
    /// may be gigabytes, is not read further than its header.
    ///
    /// # Errors
    ///
    /// Also those of [`Slot::restore_caches`](crate::session::Slot::restore_caches).
    #[cfg(feature = "server")]
    pub(crate) fn read_for(path: &Path, here: &Self, n_ctx: usize) -> Result<Self, CachesError> {
        Self::read_if(path, |header| {
            let here: Vec<_> = here.models.iter().map(|model| (model.who.clone(), model.origin.clone())).collect();
            header.without_states().compare(&here)?;
            // The base's context is that of the text.
            let base = header.models.first().and_then(|base| Some((base, base.states.first()?.n_tokens)));
            match base.filter(|(_, n_tokens)| *n_tokens > n_ctx as u64) {
                Some((base, n_tokens)) => {
                    let n_tokens = usize::try_from(n_tokens).unwrap_or(usize::MAX);
                    Err(CachesError::State { who: base.who.clone(), source: StateError::TooLong { n_tokens, n_ctx } })
                }
                None => Ok(()),
            }
        })
    }

    fn read_if(path: &Path, fits: impl FnOnce(&Header) -> Result<(), CachesError>) -> Result<Self, CachesError> {
        // Opening a pipe would wait for its other end.
        if !std::fs::metadata(path)?.is_file() {
            return Err(CachesError::Foreign);
        }
        let file = File::open(path)?;
        let n_bytes = file.metadata()?.len();
        let left = n_bytes.saturating_sub(SUM);
        let mut source = Source { file: BufReader::with_capacity(1 << 16, file), hash: Sha256::new(), left };
        if n_bytes < 8 + SUM || source.take(8)? != MAGIC {
            return Err(if n_bytes < 8 + SUM { cut_off() } else { CachesError::Foreign });
        }
        let (version, n_header) = (source.number()?, source.number()? as usize);
        if version != VERSION {
            return Err(CachesError::Version { found: version });
        }
        if n_header > MAX_HEADER {
            return Err(CachesError::Damaged("its header is too large".into()));
        }
        let header = source.take(n_header)?;
        // What the header says is believed when the sum is right; until then it is only a list of sizes.
        let header: Result<Header, _> = serde_json::from_slice(&header);
        let header = header.map_err(|_| CachesError::Damaged("its header cannot be read".into()))?;
        let sizes = header.models.iter().flat_map(|model| &model.states);
        let mut sizes = sizes.map(|state| state.n_tokens.checked_mul(4)?.checked_add(state.n_bytes));
        let n_payload = sizes.try_fold(0u64, |sum, n| sum.checked_add(n?));
        if n_payload != Some(source.left) {
            return Err(CachesError::Damaged("its length is not what its header says".into()));
        }
        fits(&header)?;
        let models = header.models.into_iter().map(|model| model.read(&mut source)).collect::<Result<_, _>>()?;
        let Source { mut file, hash, .. } = source;
        let mut sum = [0; SUM as usize];
        file.read_exact(&mut sum)?;
        match hash.finalize()[..] == sum {
            true => Ok(Self { note: header.note, llama_cpp: header.llama_cpp, models }),
            false => Err(CachesError::Damaged("its checksum is wrong".into())),
        }
    }
}

impl ModelCache {
    fn states(&self) -> impl Iterator<Item = &ExpertState> {
        std::iter::once(&self.state).chain(self.state.earlier.as_deref())
    }

    fn header(&self) -> ModelHeader {
        let state = |state: &ExpertState| StateHeader {
            n_tokens: state.tokens.len() as u64,
            n_plain: state.n_plain,
            read_with: state.read_with.clone(),
            n_bytes: state.memory.len() as u64,
        };
        ModelHeader { who: self.who.clone(), origin: self.origin.clone(), states: self.states().map(state).collect() }
    }
}

impl Header {
    /// What was saved of models that held nothing.
    #[cfg(feature = "server")]
    fn without_states(&self) -> Caches {
        let empty = |model: &ModelHeader| ModelCache {
            who: model.who.clone(),
            origin: model.origin.clone(),
            state: ExpertState::default(),
        };
        let models = self.models.iter().map(empty).collect();
        Caches { note: Map::new(), llama_cpp: self.llama_cpp.clone(), models }
    }
}

impl ModelHeader {
    fn read(self, source: &mut Source) -> Result<ModelCache, CachesError> {
        let mut states = self.states.iter().map(|state| state.read(source)).collect::<Result<Vec<_>, _>>()?;
        let earlier = if states.len() == 2 { states.pop().map(Box::new) } else { None };
        match (states.pop(), states.is_empty()) {
            (Some(state), true) => {
                Ok(ModelCache { who: self.who, origin: self.origin, state: ExpertState { earlier, ..state } })
            }
            _ => Err(CachesError::Damaged("its header cannot be read".into())),
        }
    }
}

impl StateHeader {
    fn read(&self, source: &mut Source) -> Result<ExpertState, CachesError> {
        let n = |n: u64| usize::try_from(n).map_err(|_| cut_off());
        let tokens = source.take(n(self.n_tokens.saturating_mul(4))?)?;
        let tokens = tokens.as_chunks().0.iter().map(|bytes| Token::from_le_bytes(*bytes)).collect();
        let memory = source.take(n(self.n_bytes)?)?.into();
        let read_with = self.read_with.clone();
        Ok(ExpertState { tokens, n_plain: self.n_plain, read_with, memory, earlier: None })
    }
}

/// A file that is written, with the sum of its bytes.
struct Sink {
    file: BufWriter<File>,
    hash: Sha256,
    n_bytes: u64,
}

impl Sink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.n_bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// A file that is read, with the sum of its bytes.
struct Source {
    file: BufReader<File>,
    hash: Sha256,
    /// Bytes before the file's own sum.
    left: u64,
}

impl Source {
    fn take(&mut self, n: usize) -> Result<Vec<u8>, CachesError> {
        // Before any memory is taken: a size that lies is found here.
        self.left = self.left.checked_sub(n as u64).ok_or_else(cut_off)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(n).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        if (&mut self.file).take(n as u64).read_to_end(&mut bytes)? < n {
            return Err(cut_off());
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, CachesError> {
        let bytes = self.take(4)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }
}

fn cut_off() -> CachesError {
    CachesError::Damaged("it ends too early".into())
}
