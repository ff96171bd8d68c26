//! Opens compressed kernel modules, because a guest kernel need not be able to: Debian 13 ships `.ko.xz` and Ubuntu
//! 24.04 `.ko.zst`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::Error;

/// Most bytes a module may have once decompressed. The largest of a distribution's are below 20 MiB; a damaged or
/// hostile file ends here instead of filling the memory.
const MAX_MODULE: u64 = 256 << 20;

/// Reads a kernel module, decompressing by the extension that `depmod(8)` goes by too.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>, Error> {
    let file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
    let mut module = Vec::new();
    let length = decoder(path, file)
        .and_then(|decoder| decoder.take(MAX_MODULE + 1).read_to_end(&mut module))
        .map_err(Error::io("read", path))?;
    if length as u64 > MAX_MODULE {
        return Err(Error::ModuleTooLarge { path: path.to_owned(), limit: MAX_MODULE });
    }
    Ok(module)
}

fn decoder(path: &Path, file: BufReader<File>) -> io::Result<Box<dyn Read>> {
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some("xz") => Box::new(lzma_rust2::XzReader::new(file, true)),
        Some("zst") => Box::new(ruzstd::decoding::StreamingDecoder::new(file).map_err(io::Error::other)?),
        Some(_) | None => Box::new(file),
    })
}
