//! Where images, grid, animation and archive go: all of it is checked before anything is drawn.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ddpm_store::GridOptions;
use ddpm_store::images::{AnimationFormat, Numbered, PictureFormat, check_writable, is_ours};

use crate::args::SampleArgs;
use crate::exit::UsageError;
use crate::words;

/// Frames of an animation, at most; more would only make the file large.
pub const FRAMES: usize = 60;
/// Images that a grid shows, at most: nobody looks at more, and they are held in memory.
const MOST_IN_GRID: usize = 1024;
/// Pixels of a grid with more than one image, at most: 8192 a side.
const GRID_PIXELS: usize = 1 << 26;
/// Pixels of all frames of an animation of more than one image together, at most: 256 MB in colours.
const ANIMATION_PIXELS: usize = 1 << 28;

/// What is written.
#[derive(Debug, PartialEq)]
pub struct Outputs {
    /// The folder for one PNG an image.
    pub folder: Option<PathBuf>,
    /// The grid.
    pub grid: Option<Picture<PictureFormat>>,
    /// The animation.
    pub animation: Option<Picture<AnimationFormat>>,
    /// The archive of all images.
    pub npz: Option<PathBuf>,
    /// Images a row, and the words beside the rows, where rows mean something.
    pub rows: Option<(usize, Vec<String>)>,
}

/// One file that shows images.
#[derive(Debug, PartialEq)]
pub struct Picture<Format> {
    /// The file.
    pub path: PathBuf,
    /// By its ending.
    pub format: Format,
    /// The option that names it.
    pub option: &'static str,
    /// How many of the images it shows.
    pub shown: usize,
}

impl Outputs {
    /// What the arguments name; without any, `samples/NAME` and its grid. How many images are shown is not known yet.
    ///
    /// # Errors   [`UsageError`] for endings that name no format, two outputs in one place, and places where nothing can
    /// be written
    pub fn plan(args: &SampleArgs, name: &str) -> Result<Self> {
        let named = [&args.out, &args.grid, &args.animate, &args.npz];
        let folder = match named.iter().all(|place| place.is_none()) {
            true => Some(Path::new("samples").join(name)),
            false => args.out.clone(),
        };
        let grid = match (&args.grid, &folder) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(folder)) => beside(folder)?,
            (None, None) => None,
        };
        let grid = grid.map(|path| ("--grid", path));
        let animation = args.animate.clone();
        let animation = animation.map(|path| picture("--animate", path, animation_format));
        let outputs = Self {
            animation: animation.transpose()?,
            npz: args.npz.clone(),
            ..Self::in_places(folder, grid)?
        };
        outputs.check_places()?;
        Ok(outputs)
    }

    /// These places, the grid with the option that names it.
    ///
    /// # Errors   as [`Outputs::plan`]
    pub fn of(folder: Option<PathBuf>, grid: Option<(&'static str, PathBuf)>) -> Result<Self> {
        let outputs = Self::in_places(folder, grid)?;
        outputs.check_places()?;
        Ok(outputs)
    }

    fn in_places(
        folder: Option<PathBuf>,
        grid: Option<(&'static str, PathBuf)>,
    ) -> Result<Self, UsageError> {
        let grid =
            grid.map(|(option, path)| picture(option, path, |path| grid_format(option, path)));
        Ok(Self {
            folder,
            grid: grid.transpose()?,
            animation: None,
            npz: None,
            rows: None,
        })
    }

    /// How a grid is laid out.
    pub fn options(&self) -> GridOptions {
        GridOptions {
            columns: self.rows.as_ref().map(|(columns, _)| *columns),
            ..GridOptions::default()
        }
    }

    /// The words beside the rows of a grid that shows so many images.
    pub fn row_labels(&self, shown: usize) -> &[String] {
        match &self.rows {
            Some((columns, words)) => &words[..shown.div_ceil(*columns).min(words.len())],
            None => &[],
        }
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let grid = self
            .grid
            .iter()
            .map(|file| (file.option, file.path.as_path()));
        let animation = self.animation.iter();
        grid.chain(animation.map(|file| (file.option, file.path.as_path())))
            .chain(self.npz.iter().map(|path| ("--npz", path.as_path())))
    }

    fn check_places(&self) -> Result<(), UsageError> {
        let refuse = |text: String| Err(UsageError(text));
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(folder) = &self.folder {
            writable("--out", folder, folder)?;
        }
        if let Some(path) = &self.npz {
            check_npz(path)?;
        }
        let folder = self.folder.as_deref().map(absolute);
        let mut taken: Vec<PathBuf> = folder.iter().cloned().collect();
        for (option, path) in self.files() {
            let shown = path.display();
            if path.is_dir() {
                return refuse(format!("{option} {shown}: is a folder; name a file in it"));
            }
            let place = absolute(path);
            let inside = folder
                .as_deref()
                .is_some_and(|folder| place.parent() == Some(folder));
            if inside && is_numbered(path) {
                return refuse(format!(
                    "{option} {shown}: is the name of an image of --out; choose another"
                ));
            }
            if taken.contains(&place) {
                return refuse(format!(
                    "{option} {shown}: another output has that name; choose another"
                ));
            }
            taken.push(place);
            writable(option, path, path.parent().unwrap_or(Path::new("")))?;
        }
        Ok(())
    }

    /// How many images there are to be: `asked`, or `default`, or fewer if nothing would show them all. Notes which of
    /// them grid and animation show, and warns where those are not all.
    ///
    /// # Shapes   `image`: `[channels, height, width]`; `frames` of the animation
    /// # Errors   [`UsageError`] for more images than anything shows
    pub fn fit(
        &mut self,
        asked: Option<usize>,
        default: usize,
        image: [usize; 3],
        frames: usize,
    ) -> Result<usize, UsageError> {
        let options = self.options();
        let [channels, height, width] = image;
        let shape = |count: usize| [count, channels, height, width];
        let most = |pixels: usize| options.most(shape(MOST_IN_GRID), pixels);
        let limits = [
            self.grid.is_some().then(|| most(GRID_PIXELS)),
            self.animation
                .is_some()
                .then(|| most(ANIMATION_PIXELS / frames.max(1))),
        ];
        let mut n = asked.unwrap_or(default);
        let largest = limits.iter().flatten().max().copied().unwrap_or_default();
        if self.folder.is_none() && self.npz.is_none() && n > largest {
            if asked.is_some() {
                return Err(UsageError(format!(
                    "--n {n}: {} would show at most {} of {height}x{width}; lower --n, or name a folder for all of \
                     them with --out or an archive with --npz",
                    if self.grid.is_some() {
                        "the grid"
                    } else {
                        "the animation"
                    },
                    words::some(largest as u64, "image"),
                )));
            }
            n = largest;
        }
        let [grid, animation] = limits.map(|limit| limit.unwrap_or_default().min(n));
        if let Some(file) = &mut self.grid {
            file.shown = grid;
        }
        if let Some(file) = &mut self.animation {
            file.shown = animation;
        }
        for (what, shown) in [
            ("grid", self.grid.as_ref().map(|file| file.shown)),
            ("animation", self.animation.as_ref().map(|file| file.shown)),
        ] {
            if let Some(shown) = shown.filter(|shown| *shown < n) {
                tracing::warn!(
                    "the {what} shows the first {shown} of {}",
                    words::some(n as u64, "image")
                );
            }
        }
        Ok(n)
    }

    /// Leaves out a grid that nobody asked for by name and that would be too large.
    ///
    /// # Errors   [`UsageError`] for sides that a format has not
    pub fn check_sides(&mut self, image: [usize; 3], named: bool) -> Result<(), UsageError> {
        let [channels, height, width] = image;
        let options = self.options();
        let size = |shown| options.size([shown, channels, height, width]);
        if let Some(file) = &self.grid {
            let checked = check_sides(
                file.option,
                &file.path,
                size(file.shown),
                file.format.longest_side(),
            );
            match checked {
                Err(_) if !named => {
                    tracing::warn!("the images are too large for a grid, so there will be none");
                    self.grid = None;
                }
                checked => checked?,
            }
        }
        match &self.animation {
            Some(file) => check_sides(
                file.option,
                &file.path,
                size(file.shown),
                file.format.longest_side(),
            ),
            None => Ok(()),
        }
    }

    /// Bytes that grid and animation take while they are made and encoded.
    pub fn bytes(&self, image: [usize; 3], frames: usize) -> u128 {
        let [channels, height, width] = image;
        let pixels = |shown: usize| {
            let size = GridOptions::default().size([shown, channels, height, width]);
            size.map_or(0, |[width, height]| width as u128 * height as u128)
        };
        let grid = self
            .grid
            .as_ref()
            .map_or(0, |file| pixels(file.shown) * 3 * 2);
        let animation = self
            .animation
            .as_ref()
            .map_or(0, |file| pixels(file.shown) * 3);
        grid.saturating_add(animation.saturating_mul(frames as u128 + 2))
    }

    /// The pictures that an earlier call left in the folder.
    ///
    /// # Errors   [`UsageError`] if others have put pictures there whose names ours need
    pub fn earlier(&self, first: u64) -> Result<Numbered> {
        let Some(folder) = &self.folder else {
            return Ok(Numbered::default());
        };
        let found = Numbered::find(folder)?;
        if let Some((_, path)) = found.others.first() {
            return Err(UsageError(format!(
                "--out {}: {} is there and is not of this program, or of an older version of it; choose another \
                 folder, or move it away",
                folder.display(),
                path.file_name().unwrap_or_default().display(),
            ))
            .into());
        }
        // With --first a set goes on that an earlier call has begun.
        Ok(if first == 0 {
            found
        } else {
            Numbered::default()
        })
    }
}

/// The grid of a folder lies beside it, so that the folder holds nothing but the images.
///
/// # Errors   [`UsageError`] if something of somebody else has that name
pub fn beside(folder: &Path) -> Result<Option<PathBuf>> {
    let Some(name) = folder.file_name() else {
        return Ok(None);
    };
    let mut name = name.to_owned();
    name.push(".png");
    let path = folder.with_file_name(name);
    free(&path, "the grid would go here, beside the folder", "--grid")?;
    Ok(Some(path))
}

/// Makes sure that a place which nobody has named holds nothing of somebody else.
///
/// # Errors   [`UsageError`] with `why` something would go there and the `option` that names another place
pub fn free(path: &Path, why: &str, option: &str) -> Result<()> {
    match path.exists() && !is_ours(path)? {
        true => Err(UsageError(format!(
            "{}: {why}, but this file is not of this program; name another with {option}",
            path.display()
        ))
        .into()),
        false => Ok(()),
    }
}

fn picture<Format>(
    option: &'static str,
    path: PathBuf,
    format: impl Fn(&Path) -> Result<Format, UsageError>,
) -> Result<Picture<Format>, UsageError> {
    Ok(Picture {
        format: format(&path)?,
        path,
        option,
        shown: 0,
    })
}

fn grid_format(option: &str, path: &Path) -> Result<PictureFormat, UsageError> {
    PictureFormat::of(path).ok_or_else(|| {
        UsageError(format!(
            "{option} {}: the ending says the format; write {}",
            path.display(),
            PictureFormat::ENDINGS
        ))
    })
}

fn animation_format(path: &Path) -> Result<AnimationFormat, UsageError> {
    AnimationFormat::of(path).ok_or_else(|| {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let is_video = ["mp4", "m4v", "mov", "mkv", "webm", "avi"].iter().any(|video| ending == *video);
        let endings = AnimationFormat::ENDINGS;
        UsageError(match is_video {
            true => format!(
                "--animate {}: videos are not written; write {endings}, and make a video of the .png with ffmpeg -i \
                 a.png -pix_fmt yuv420p a.mp4",
                path.display()
            ),
            false => format!(
                "--animate {}: the ending says the format; write {endings}",
                path.display()
            ),
        })
    })
}

fn check_npz(path: &Path) -> Result<(), UsageError> {
    let ending = path.extension();
    match ending.is_some_and(|ending| ending.eq_ignore_ascii_case("npz")) {
        true => Ok(()),
        false => Err(UsageError(format!(
            "--npz {}: the ending says the format; write .npz",
            path.display()
        ))),
    }
}

/// Whether a name is one that images in a folder have.
fn is_numbered(path: &Path) -> bool {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let is_png = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    is_png && stem.len() >= 5 && stem.bytes().all(|byte| byte.is_ascii_digit())
}

fn writable(option: &str, path: &Path, folder: &Path) -> Result<(), UsageError> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    check_writable(folder).map_err(|error| {
        UsageError(format!(
            "{option} {}: {error}; name another place",
            path.display()
        ))
    })
}

fn check_sides(
    option: &str,
    path: &Path,
    size: Option<[usize; 2]>,
    longest: usize,
) -> Result<(), UsageError> {
    let sides = match size {
        Some([width, height]) if width.max(height) <= longest => return Ok(()),
        Some([width, height]) => {
            format!("{width}x{height} pixels, and this format has at most {longest} a side")
        }
        None => "more than 2^28 pixels".to_owned(),
    };
    Err(UsageError(format!(
        "{option} {}: would have {sides}; lower --n or --size",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn plan(place: &Path, options: &[&str]) -> Result<Outputs> {
        let options = options.iter().map(|option| match option.strip_prefix("@") {
            Some(path) => place.join(path).display().to_string(),
            None => (*option).to_owned(),
        });
        let typed = ["ddpm", "sample"]
            .map(str::to_owned)
            .into_iter()
            .chain(options);
        match Cli::try_parse_from(typed).unwrap().command {
            Command::Sample(args) => Outputs::plan(&args, "run"),
            _ => unreachable!("it is sample"),
        }
    }

    #[test]
    fn the_grid_lies_beside_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let outputs = plan(place, &["--out", "@set.v1/"]).unwrap();
        assert_eq!(outputs.folder, Some(place.join("set.v1/")));
        assert_eq!(outputs.grid.unwrap().path, place.join("set.v1.png"));
        let outputs = plan(place, &["--animate", "@a.webp"]).unwrap();
        assert!(outputs.folder.is_none() && outputs.grid.is_none());
        assert_eq!(outputs.animation.unwrap().format, AnimationFormat::Webp);
        let outputs = plan(place, &["--npz", "@a.NPZ"]).unwrap();
        assert!(outputs.folder.is_none() && outputs.grid.is_none());
        assert_eq!(outputs.npz, Some(place.join("a.NPZ")));
        // What somebody else has put there is not replaced unasked.
        std::fs::write(place.join("mine.png"), "a picture").unwrap();
        let refused = plan(place, &["--out", "@mine"]).unwrap_err().to_string();
        assert!(
            refused.contains("mine.png: the grid would go here"),
            "{refused}"
        );
        assert!(plan(place, &["--out", "@mine", "--grid", "@mine.png"]).is_ok());
    }

    #[test]
    fn places_and_endings_are_checked_first() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        std::fs::create_dir_all(place.join("folder.png")).unwrap();
        std::fs::write(place.join("file"), "x").unwrap();
        for (options, words) in [
            (&["--grid", "@g.bmp"][..], ".png, .jpg or .webp"),
            (&["--grid", "@g"], ".png, .jpg or .webp"),
            (&["--grid", "@g.gif"], ".png, .jpg or .webp"),
            (&["--animate", "@a.jpg"], ".gif, .webp or .png"),
            (
                &["--animate", "@a.MP4"],
                "a.MP4: videos are not written; write .gif, .webp or .png",
            ),
            (
                &["--npz", "@a.npy"],
                "a.npy: the ending says the format; write .npz",
            ),
            (
                &["--npz", "@file/a.npz"],
                "file: cannot be used as a folder",
            ),
            (
                &["--out", "@x.npz", "--npz", "@x.npz"],
                "another output has that name",
            ),
            (&["--grid", "@folder.png"], "folder.png: is a folder"),
            (
                &["--grid", "@file/g.png"],
                "file: cannot be used as a folder",
            ),
            (&["--out", "@file"], "file: cannot be used as a folder"),
            (
                &["--out", "@file/below"],
                "file: cannot be used as a folder",
            ),
            (
                &["--grid", "@x.png", "--animate", "@x.png"],
                "another output has that name",
            ),
            (
                &["--out", "@x.png", "--grid", "@x.png"],
                "another output has that name",
            ),
            (
                &["--out", "@x", "--grid", "@x/00001.png"],
                "is the name of an image of --out",
            ),
            #[cfg(target_os = "linux")]
            (
                &["--grid", "/proc/g.png"],
                "/proc: cannot write into this folder",
            ),
        ] {
            let refused = plan(place, options).unwrap_err();
            assert_eq!(crate::exit::code_of(&refused).code(), 2, "{options:?}");
            let refused = refused.to_string();
            assert!(refused.contains(words), "{options:?}: {refused}");
        }
        assert!(plan(place, &["--out", "@x", "--grid", "@x/grid.jpg"]).is_ok());
        // Nothing was left behind.
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 2);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let fit = |options: &[&str], asked, side, frames| {
            let mut outputs = plan(place, options).unwrap();
            let image = [3, side, side];
            let said = |error: UsageError| error.to_string();
            let n = outputs.fit(asked, 64, image, frames).map_err(said)?;
            let named = options.contains(&"--grid");
            outputs.check_sides(image, named).map_err(said)?;
            let shown = |file: Option<usize>| file.unwrap_or_default();
            let grid = shown(outputs.grid.as_ref().map(|file| file.shown));
            let animation = shown(outputs.animation.as_ref().map(|file| file.shown));
            assert!(outputs.bytes([3, side, side], frames) < 2 << 30);
            Ok::<_, String>((n, grid, animation))
        };
        let folder = ["--out", "@x"];
        assert_eq!(fit(&folder, None, 32, 0), Ok((64, 64, 0)));
        assert_eq!(fit(&folder, Some(10_000), 32, 0), Ok((10_000, 1024, 0)));
        // Tiles of 1026: 7 in a row of 8192 pixels.
        assert_eq!(fit(&folder, Some(10_000), 1024, 0), Ok((10_000, 56, 0)));
        // Without a folder what is not shown would be lost; what nobody asked for is not drawn.
        let animation = ["--animate", "@x.gif"];
        assert_eq!(fit(&animation, None, 32, 60), Ok((64, 0, 64)));
        assert_eq!(fit(&animation, None, 512, 60), Ok((16, 0, 16)));
        let refused = fit(&animation, Some(64), 512, 60).unwrap_err();
        assert!(
            refused.starts_with("--n 64: the animation would show at most 16 images of 512x512"),
            "{refused}"
        );
        let both = ["--animate", "@x.gif", "--grid", "@g.png"];
        assert_eq!(fit(&both, Some(40), 512, 60), Ok((40, 40, 16)));
        // An archive keeps what is not shown, as a folder does.
        let npz = ["--animate", "@x.gif", "--npz", "@x.npz"];
        assert_eq!(fit(&npz, Some(10_000), 512, 60), Ok((10_000, 0, 16)));
        assert_eq!(fit(&npz[2..], None, 512, 0), Ok((64, 0, 0)));
        // Nobody asked for a grid.
        assert_eq!(fit(&folder, Some(1), 16_384, 0), Ok((1, 0, 0)));
        // WebP has sides of 16384 at most.
        let refused = fit(&["--grid", "@g.webp"], Some(1), 16_384, 0).unwrap_err();
        assert!(refused.contains("lower --n or --size"), "{refused}");
    }

    #[test]
    fn pictures_of_others_are_never_replaced() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let outputs = plan(place, &["--out", "@set"]).unwrap();
        let batch = ddpm_store::ImageBatch::new(vec![0.0; 12], [3, 1, 2, 2]).unwrap();
        batch.save_separate(&place.join("set"), 0).unwrap();
        assert_eq!(outputs.earlier(0).unwrap().ours.len(), 3);
        assert!(outputs.earlier(2).unwrap().ours.is_empty());
        std::fs::write(place.join("set/00002.png"), "of somebody").unwrap();
        let refused = outputs.earlier(0).unwrap_err().to_string();
        assert!(
            refused.contains("00002.png is there and is not of this program"),
            "{refused}"
        );
    }
}
