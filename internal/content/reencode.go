package content

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
)

// maxReencode is the most pixels that are decoded, all frames of an animation
// together: each takes four bytes of memory.
const maxReencode = 40_000_000

// jpegQuality is what JPEG is written with: differences are not seen.
const jpegQuality = 92

// Reencode decodes an image and writes it anew in its own format: nothing but
// the pixels comes through, so metadata (places, names, thumbnails) and
// whatever else was in the file are gone. The orientation that EXIF asks for
// is applied. Animated GIF stays animated. There is no encoder for WebP, HEIC,
// AVIF and the rest: the error says why an image cannot be written anew.
func Reencode(w io.Writer, f File, kind Kind) error {
	section := func() io.Reader { return bufio.NewReader(io.NewSectionReader(f.Data, 0, f.Size)) }
	width, height, known := dimensions(f, kind)
	if !known || width <= 0 || height <= 0 {
		return errors.New("the image's header cannot be read")
	}
	if int64(height) > maxReencode/int64(width) {
		return fmt.Errorf("%d by %d pixels are more than are decoded", width, height)
	}
	switch kind.MIME {
	case "image/jpeg":
		m, err := jpeg.Decode(section())
		if err != nil {
			return err
		}
		return jpeg.Encode(w, upright(m, orientation(f)), &jpeg.Options{Quality: jpegQuality})
	case "image/png":
		m, err := png.Decode(section())
		if err != nil {
			return err
		}
		return png.Encode(w, m)
	case "image/gif":
		frames, err := gifFrames(f)
		if err != nil {
			return err
		}
		if int64(frames) > maxReencode/(int64(width)*int64(height)) {
			return fmt.Errorf("%d frames of %d by %d pixels are more than are decoded", frames, width, height)
		}
		g, err := gif.DecodeAll(section())
		if err != nil {
			return err
		}
		return gif.EncodeAll(w, g)
	}
	return fmt.Errorf("%s cannot be written anew", kind.MIME)
}

// gifFrames counts the frames of a GIF by its blocks.
func gifFrames(f File) (frames int, err error) {
	r := bufio.NewReader(io.NewSectionReader(f.Data, 0, f.Size))
	var head [13]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	table := func(flags byte) int {
		if flags&0x80 == 0 {
			return 0
		}
		return 3 << (flags&7 + 1)
	}
	if _, err := r.Discard(table(head[10])); err != nil {
		return 0, err
	}
	blocks := func() error {
		for {
			n, err := r.ReadByte()
			if err != nil || n == 0 {
				return err
			}
			if _, err := r.Discard(int(n)); err != nil {
				return err
			}
		}
	}
	for {
		c, err := r.ReadByte()
		if err != nil {
			return frames, err
		}
		switch c {
		case 0x3b:
			return frames, nil
		case 0x21:
			if _, err := r.Discard(1); err != nil {
				return frames, err
			}
			if err := blocks(); err != nil {
				return frames, err
			}
		case 0x2c:
			frames++
			var d [9]byte
			if _, err := io.ReadFull(r, d[:]); err != nil {
				return frames, err
			}
			if _, err := r.Discard(table(d[8]) + 1); err != nil {
				return frames, err
			}
			if err := blocks(); err != nil {
				return frames, err
			}
		default:
			return frames, fmt.Errorf("an unknown block in GIF")
		}
	}
}

// orientation reads the orientation that EXIF gives a JPEG, 1 to 8; 1 when it
// gives none.
func orientation(f File) int {
	r := bufio.NewReader(io.NewSectionReader(f.Data, 2, f.Size-2))
	for {
		var h [4]byte
		if _, err := io.ReadFull(r, h[:]); err != nil || h[0] != 0xff || h[1] == 0xda {
			return 1
		}
		n := int(binary.BigEndian.Uint16(h[2:])) - 2
		if n < 0 {
			return 1
		}
		if h[1] != 0xe1 {
			if _, err := r.Discard(n); err != nil {
				return 1
			}
			continue
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return 1
		}
		if o := exifOrientation(b); o != 0 {
			return o
		}
	}
}

// exifOrientation reads tag 0x0112 of the first directory; 0 when there is
// none.
func exifOrientation(b []byte) int {
	if len(b) < 14 || string(b[:6]) != "Exif\x00\x00" {
		return 0
	}
	b = b[6:]
	var order binary.ByteOrder
	switch string(b[:2]) {
	case "II":
		order = binary.LittleEndian
	case "MM":
		order = binary.BigEndian
	default:
		return 0
	}
	at := int64(order.Uint32(b[4:]))
	if at+2 > int64(len(b)) {
		return 0
	}
	for i := range int64(order.Uint16(b[at:])) {
		e := at + 2 + 12*i
		if e+12 > int64(len(b)) {
			return 0
		}
		if order.Uint16(b[e:]) == 0x0112 {
			if o := int(order.Uint16(b[e+8:])); o >= 1 && o <= 8 {
				return o
			}
			return 0
		}
	}
	return 0
}

// upright turns an image so that it needs no orientation.
func upright(m image.Image, orientation int) image.Image {
	if orientation <= 1 {
		return m
	}
	b := m.Bounds()
	w, h := b.Dx(), b.Dy()
	src := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(src, src.Bounds(), m, b.Min, draw.Src)
	tw, th := w, h
	if orientation >= 5 {
		tw, th = h, w
	}
	dst := image.NewRGBA(image.Rect(0, 0, tw, th))
	for y := range h {
		for x := range w {
			tx, ty := x, y
			switch orientation {
			case 2:
				tx = w - 1 - x
			case 3:
				tx, ty = w-1-x, h-1-y
			case 4:
				ty = h - 1 - y
			case 5:
				tx, ty = y, x
			case 6:
				tx, ty = h-1-y, x
			case 7:
				tx, ty = h-1-y, w-1-x
			case 8:
				tx, ty = y, w-1-x
			}
			copy(dst.Pix[dst.PixOffset(tx, ty):][:4], src.Pix[src.PixOffset(x, y):][:4])
		}
	}
	return dst
}
