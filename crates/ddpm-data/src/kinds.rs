//! Kinds of files that are known and not read.

use std::collections::BTreeMap;

use crate::words::some;

/// What is to be done with a file of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Picture,
    Video,
    /// Many images in one file.
    Shard,
    /// Many numbers in one file, which often lies beside images and says something of them.
    Numbers,
    Archive,
}

/// A kind of file that is known and not read.
#[derive(Debug, PartialEq)]
pub(crate) struct Kind {
    name: &'static str,
    sort: Sort,
    /// In lower case, without the first dot.
    extensions: &'static [&'static str],
}

const fn kind(name: &'static str, sort: Sort, extensions: &'static [&'static str]) -> Kind {
    Kind {
        name,
        sort,
        extensions,
    }
}

static HEIC: Kind = kind("HEIC", Sort::Picture, &["heic", "heif", "hif", "heics"]);
static AVIF: Kind = kind("AVIF", Sort::Picture, &["avif", "avifs"]);
static JXL: Kind = kind("JXL", Sort::Picture, &["jxl"]);
static JPEG_2000: Kind = kind("JPEG 2000", Sort::Picture, &["jp2", "j2k", "jpf", "jpx"]);
static PSD: Kind = kind("PSD", Sort::Picture, &["psd", "psb"]);
static EXR: Kind = kind("EXR", Sort::Picture, &["exr"]);
static QOI: Kind = kind("QOI", Sort::Picture, &["qoi"]);
static DDS: Kind = kind("DDS", Sort::Picture, &["dds"]);
static DICOM: Kind = kind("DICOM", Sort::Picture, &["dcm", "dicom"]);
static PDF: Kind = kind("PDF", Sort::Picture, &["pdf"]);
static VIDEO: Kind = kind(
    "MP4/MOV",
    Sort::Video,
    &["mp4", "mov", "m4v", "avi", "mkv", "webm"],
);
static PARQUET: Kind = kind("Parquet", Sort::Shard, &["parquet"]);
static ARROW: Kind = kind("Arrow", Sort::Shard, &["arrow", "feather"]);
static TFRECORD: Kind = kind("TFRecord", Sort::Shard, &["tfrecord", "tfrecords"]);
static LMDB: Kind = kind("LMDB", Sort::Shard, &["mdb", "lmdb"]);
static HDF5: Kind = kind("HDF5", Sort::Numbers, &["h5", "hdf5", "hdf", "he5"]);
static MATLAB: Kind = kind("MATLAB", Sort::Numbers, &["mat"]);
static PICKLE: Kind = kind("pickle", Sort::Numbers, &["pkl", "pickle"]);
pub(crate) static PYTORCH: Kind = kind("PyTorch", Sort::Numbers, &["pt", "pth"]);
static TAR: Kind = kind(
    "tar",
    Sort::Archive,
    &[
        "tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst",
    ],
);
static SEVEN_ZIP: Kind = kind("7z", Sort::Archive, &["7z"]);
static RAR: Kind = kind("RAR", Sort::Archive, &["rar"]);
static XZ: Kind = kind("xz", Sort::Archive, &["xz"]);
static BZIP2: Kind = kind("bzip2", Sort::Archive, &["bz2"]);
static ZSTD: Kind = kind("zstd", Sort::Archive, &["zst"]);

const RAW: &str = "RAW";

/// What has no kind of its own above because nothing but its name tells it.
static BY_NAME: [Kind; 6] = [
    kind(
        RAW,
        Sort::Picture,
        &[
            "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "dng", "raf", "orf", "rw2", "pef",
            "srw", "3fr", "x3f",
        ],
    ),
    kind("SVG", Sort::Picture, &["svg", "svgz"]),
    kind("EPS", Sort::Picture, &["eps"]),
    kind("TGA", Sort::Picture, &["tga"]),
    kind("PNM", Sort::Picture, &["ppm", "pgm", "pbm", "pnm", "pam"]),
    kind("XCF", Sort::Picture, &["xcf"]),
];

/// The order matters where one extension ends with another.
static ALL: [&Kind; 25] = [
    &HEIC, &AVIF, &JXL, &JPEG_2000, &PSD, &EXR, &QOI, &DDS, &DICOM, &PDF, &VIDEO, &PARQUET, &ARROW,
    &TFRECORD, &LMDB, &HDF5, &MATLAB, &PICKLE, &PYTORCH, &TAR, &SEVEN_ZIP, &RAR, &XZ, &BZIP2,
    &ZSTD,
];

/// As many first bytes as [`of_content`] wants; fewer tell fewer kinds apart.
pub(crate) const HEAD_BYTES: usize = 512;

impl Kind {
    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What to do with one such file.
    pub(crate) fn remedy(&self) -> &'static str {
        match self.sort {
            Sort::Picture => "convert it to PNG",
            Sort::Video => "export its frames to a folder of PNG files",
            Sort::Shard | Sort::Numbers => "export its images to a folder of PNG files",
            Sort::Archive => "unpack it and give the folder",
        }
    }

    /// What a message says of one such file.
    pub(crate) fn what(&self) -> String {
        format!("is of a kind that is not read ({})", self.name)
    }

    /// Whether somebody who trains on the images beside it may take it for one or more of them.
    fn is_missed(&self) -> bool {
        matches!(self.sort, Sort::Picture | Sort::Video | Sort::Shard)
    }
}

/// The kind that a file's name says.
pub(crate) fn of_name(name: &str) -> Option<&'static Kind> {
    let name = name.to_ascii_lowercase();
    let ends_with = |kind: &&Kind| {
        kind.extensions.iter().any(|extension| {
            name.strip_suffix(extension)
                .is_some_and(|rest| rest.ends_with('.'))
        })
    };
    // shards are numbered behind their extension: train.tfrecord-00000-of-00100
    let numbered = name.contains(".tfrecord-");
    ALL.into_iter()
        .chain(&BY_NAME)
        .find(ends_with)
        .or_else(|| numbered.then_some(&TFRECORD))
}

/// The kind that a file's first bytes say.
pub(crate) fn of_content(head: &[u8]) -> Option<&'static Kind> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    // ISO base media files name themselves behind the length of their first box
    if at(4, b"ftyp") {
        return Some(match head.get(8..12) {
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
                &HEIC
            }
            Some(b"avif" | b"avis") => &AVIF,
            Some(b"crx ") => BY_NAME.first()?,
            _ => &VIDEO,
        });
    }
    let table: [(usize, &[u8], &'static Kind); 25] = [
        (0, b"\xff\x0a", &JXL),
        (0, b"\0\0\0\x0cJXL \r\n\x87\n", &JXL),
        (0, b"\0\0\0\x0cjP  \r\n\x87\n", &JPEG_2000),
        (0, b"\xff\x4f\xff\x51", &JPEG_2000),
        (0, b"8BPS", &PSD),
        (0, b"\x76\x2f\x31\x01", &EXR),
        (0, b"qoif", &QOI),
        (0, b"DDS ", &DDS),
        (128, b"DICM", &DICOM),
        (0, b"%PDF-", &PDF),
        (0, b"\x1a\x45\xdf\xa3", &VIDEO),
        (8, b"AVI LIST", &VIDEO),
        (0, b"PAR1", &PARQUET),
        (0, b"ARROW1", &ARROW),
        (16, b"\xde\xc0\xef\xbe", &LMDB),
        (0, b"\x89HDF\r\n\x1a\n", &HDF5),
        (0, b"MATLAB 5.0 MAT-file", &MATLAB),
        (0, b"MATLAB 7.3 MAT-file", &MATLAB),
        (257, b"ustar", &TAR),
        (0, b"7z\xbc\xaf\x27\x1c", &SEVEN_ZIP),
        (0, b"Rar!\x1a\x07", &RAR),
        (0, b"\xfd7zXZ\0", &XZ),
        (0, b"BZh", &BZIP2),
        (0, b"\x28\xb5\x2f\xfd", &ZSTD),
        // the number that torch.save wrote first, before it wrote zip archives
        (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", &PYTORCH),
    ];
    let found = table
        .into_iter()
        .find(|(offset, magic, _)| at(*offset, magic))
        .map(|(_, _, kind)| kind);
    found.or_else(|| is_pickle(head).then_some(&PICKLE))
}

/// Whether a file by this name and with these first bytes is a camera's: most of those are TIFFs of their makers' kinds,
/// in which an ordinary reader finds a thumbnail.
pub(crate) fn is_raw(name: &str, head: &[u8]) -> bool {
    let tiff = [b"II*\0", b"MM\0*"]
        .iter()
        .any(|magic| head.starts_with(*magic));
    tiff && of_name(name).is_some_and(|kind| kind.name == RAW)
}

/// Whether bytes begin with the protocol's number (2 to 5) and what opens a frame, a dictionary, a list, a tuple or
/// a class (Python's `pickletools`).
pub(crate) fn is_pickle(head: &[u8]) -> bool {
    matches!(
        head,
        [0x80, 2..=5, 0x95 | b'}' | b']' | b'(' | b'c' | b'K', ..]
    )
}

/// Files that were passed over because they are of kinds that are not read, and what hidden and system files and
/// folders were skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    kinds: BTreeMap<&'static str, usize>,
    only_pictures: bool,
    hidden: usize,
    /// The first of those, by name.
    first_hidden: Option<String>,
}

impl PassedOver {
    /// Counts a file that is no image, if it is of a kind that a person may take for one.
    pub(crate) fn add(&mut self, kind: &Kind) {
        if !kind.is_missed() {
            return;
        }
        self.only_pictures =
            kind.sort == Sort::Picture && (self.kinds.is_empty() || self.only_pictures);
        *self.kinds.entry(kind.name).or_default() += 1;
    }

    /// Counts a hidden or system file or folder.
    pub(crate) fn add_hidden(&mut self, name: &str) {
        self.hidden += 1;
        if self
            .first_hidden
            .as_deref()
            .is_none_or(|first| name < first)
        {
            self.first_hidden = Some(name.to_owned());
        }
    }

    /// How many files are of kinds that are not read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.kinds.values().sum()
    }

    /// The kinds that are not read and how many files each has, by name: `("HEIC", 50)`.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.kinds.iter().map(|(&name, &count)| (name, count))
    }

    /// How many hidden and system files and folders were skipped.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// `54 files of kinds that are not read (50 HEIC, 4 JXL): convert them to PNG`; none if there are none.
    #[must_use]
    pub fn describe_unread(&self) -> Option<String> {
        let kinds: Vec<String> = self
            .kinds()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let (files, them) = match self.unread() {
            0 => return None,
            1 => ("1 file of a kind that is".to_owned(), "it"),
            count => (format!("{} of kinds that are", some(count, "file")), "them"),
        };
        let verb = if self.only_pictures {
            "convert"
        } else {
            "convert or export"
        };
        Some(format!(
            "{files} not read ({}): {verb} {them} to PNG",
            kinds.join(", ")
        ))
    }

    /// `2 hidden or system files and folders (.git, …)`; none if there are none.
    #[must_use]
    pub fn describe_hidden(&self) -> Option<String> {
        let name = crate::error::excerpt(self.first_hidden.as_deref()?);
        Some(match self.hidden {
            1 => format!("1 hidden or system file or folder ({name})"),
            count => format!("{count} hidden or system files and folders ({name}, …)"),
        })
    }
}

/// Whether a file or folder is hidden, or what systems and programs leave beside images.
pub(crate) fn is_hidden(name: &str) -> bool {
    const SYSTEM: [&str; 8] = [
        "__MACOSX",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    ];
    name.starts_with('.') || SYSTEM.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_name() {
        for (name, kind) in [
            ("IMG_1.HEIC", Some("HEIC")),
            ("a.b.tar.gz", Some("tar")),
            ("a.tgz", Some("tar")),
            ("a.CR2", Some("RAW")),
            ("train.tfrecord-00000-of-00010", Some("TFRecord")),
            ("data.mdb", Some("LMDB")),
            ("heic", None),
            ("a.png", None),
            ("a.txt", None),
            ("a.zip", None),
        ] {
            assert_eq!(of_name(name).map(|kind| kind.name), kind, "{name}");
        }
    }

    #[test]
    fn a_cameras_tiff_is_no_picture() {
        for (name, head, raw) in [
            ("a.NEF", b"MM\0*\0\0\0\x08", true),
            ("a.dng", b"II*\0\x08\0\0\0", true),
            ("a.tif", b"II*\0\x08\0\0\0", false),
            ("a.nef", b"\x89PNG\r\n\x1a\n", false),
        ] {
            assert_eq!(is_raw(name, head), raw, "{name}");
        }
    }

    #[test]
    fn kinds_are_told_by_content() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let mut lmdb = vec![0; 32];
        lmdb[16..20].copy_from_slice(&0xbeef_c0de_u32.to_le_bytes());
        for (head, kind) in [
            (b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), Some("HEIC")),
            (b"\0\0\0\x18ftypavif\0\0\0\0".to_vec(), Some("AVIF")),
            (b"\0\0\0\x18ftypisom\0\0\0\0".to_vec(), Some("MP4/MOV")),
            (b"\0\0\0\x18ftypcrx \0\0\0\0".to_vec(), Some("RAW")),
            (tar, Some("tar")),
            (lmdb, Some("LMDB")),
            (b"\x80\x04\x95\0\0".to_vec(), Some("pickle")),
            (b"\x80\x02}q\x01".to_vec(), Some("pickle")),
            (b"\x80\x07}q\x01".to_vec(), None),
            (b"\xff\xd8\xff\xe0".to_vec(), None),
            (b"words".to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(of_content(&head).map(|kind| kind.name), kind, "{head:?}");
        }
    }

    #[test]
    fn what_was_passed_over_is_said_by_kind() {
        let mut passed = PassedOver::default();
        assert_eq!(passed.describe_unread(), None);
        assert_eq!(passed.describe_hidden(), None);
        passed.add(&JXL);
        assert_eq!(
            passed.describe_unread().unwrap(),
            "1 file of a kind that is not read (1 JXL): convert it to PNG"
        );
        passed.add(&HEIC);
        passed.add(&HEIC);
        // often beside images: not worth a word
        passed.add(&MATLAB);
        passed.add(&TAR);
        assert_eq!(
            passed.describe_unread().unwrap(),
            "3 files of kinds that are not read (2 HEIC, 1 JXL): convert them to PNG"
        );
        passed.add(&PARQUET);
        assert!(
            passed
                .describe_unread()
                .unwrap()
                .contains("convert or export")
        );
        passed.add_hidden(".git");
        assert_eq!(
            passed.describe_hidden().unwrap(),
            "1 hidden or system file or folder (.git)"
        );
        passed.add_hidden(".a");
        assert_eq!(
            passed.describe_hidden().unwrap(),
            "2 hidden or system files and folders (.a, …)"
        );
    }
}
