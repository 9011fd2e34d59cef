package content

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
)

// exif is an APP1 segment with an orientation.
func exif(order binary.AppendByteOrder, mark string, orientation uint16) string {
	b := []byte("Exif\x00\x00" + mark)
	b = order.AppendUint16(b, 42)
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2) // entries
	b = order.AppendUint16(b, 0x010f)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint32(b, 4)
	b = append(b, "GPS\x00"...)
	b = order.AppendUint16(b, 0x0112)
	b = order.AppendUint16(b, 3)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint16(b, orientation)
	b = order.AppendUint16(b, 0)
	return "\xff\xe1" + string(binary.BigEndian.AppendUint16(nil, uint16(len(b)+2))) + string(b)
}

func again(t *testing.T, text string) (image.Image, string, error) {
	t.Helper()
	f := File{Data: strings.NewReader(text), Size: int64(len(text))}
	var out bytes.Buffer
	if err := Reencode(&out, f, Sniff([]byte(text))); err != nil {
		return nil, "", err
	}
	m, _, err := image.Decode(bytes.NewReader(out.Bytes()))
	return m, out.String(), err
}

// TestOrientation: an image is turned as its EXIF asks for, because the tag is
// gone afterwards. The original is red in its left upper quarter.
func TestOrientation(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 64, 32))
	for y := range 32 {
		for x := range 64 {
			c := color.RGBA{0, 0, 255, 255}
			if x < 32 && y < 16 {
				c = color.RGBA{255, 0, 0, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	// Where the red quarter is afterwards: left or right, top or bottom.
	for o, want := range map[uint16]struct {
		wide        bool
		right, down bool
	}{1: {true, false, false}, 2: {true, true, false}, 3: {true, true, true}, 4: {true, false, true}, 5: {false, false, false}, 6: {false, true, false}, 7: {false, true, true}, 8: {false, false, true}} {
		for _, order := range []struct {
			binary.AppendByteOrder
			mark string
		}{{binary.LittleEndian, "II"}, {binary.BigEndian, "MM"}} {
			got, text, err := again(t, b.String()[:2]+exif(order, order.mark, o)+b.String()[2:])
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "Exif") || strings.Contains(text, "GPS") {
				t.Errorf("orientation %d: metadata came through", o)
			}
			w, h := got.Bounds().Dx(), got.Bounds().Dy()
			x, y := w/4, h/4
			if want.right {
				x = w * 3 / 4
			}
			if want.down {
				y = h * 3 / 4
			}
			if r, _, blue, _ := got.At(x, y).RGBA(); (w > h) != want.wide || r < 0xc000 || blue > 0x4000 {
				t.Errorf("orientation %d, %s: %d by %d, red %x blue %x", o, order.mark, w, h, r, blue)
			}
		}
	}
}

func TestReencode(t *testing.T) {
	anim := &gif.GIF{}
	for i := range 3 {
		f := image.NewPaletted(image.Rect(0, 0, 8, 8), palette.WebSafe)
		f.Pix[i] = 7
		anim.Image, anim.Delay = append(anim.Image, f), append(anim.Delay, 10*i)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, anim); err != nil {
		t.Fatal(err)
	}
	_, text, err := again(t, b.String())
	if err != nil {
		t.Fatal(err)
	}
	if g, err := gif.DecodeAll(strings.NewReader(text)); err != nil || len(g.Image) != 3 || g.Delay[2] != 20 {
		t.Errorf("the animation is lost: %v", err)
	}
	// What is hidden in a PNG does not come through, its pixels do.
	m, text, err := again(t, pngOf(20, 10)+"<?php x ?>"+zipOf(member{"a", "x"}))
	if err != nil || strings.Contains(text, "php") || strings.Contains(text, "PK\x05\x06") {
		t.Fatalf("%v", err)
	}
	want, _ := png.Decode(strings.NewReader(pngOf(20, 10)))
	for _, p := range []image.Point{{0, 0}, {19, 9}, {7, 3}} {
		if color.NRGBAModel.Convert(m.At(p.X, p.Y)) != color.NRGBAModel.Convert(want.At(p.X, p.Y)) {
			t.Errorf("another pixel at %v", p)
		}
	}
	big := pngOf(8, 8)
	for _, bad := range []string{
		big[:16] + "\x00\x00\xff\xff\x00\x00\xff\xff" + big[24:], big[:30], "\xff\xd8\xff\xe0", "GIF89a", "not an image", honest()[4].text,
	} {
		if _, _, err := again(t, bad); err == nil {
			t.Errorf("%.20q was written anew", bad)
		}
	}
}

// FuzzImages: headers, blocks and EXIF of anything.
func FuzzImages(f *testing.F) {
	f.Add([]byte(jpegOf(9, 9)[:2] + exif(binary.LittleEndian, "II", 6) + jpegOf(9, 9)[2:]))
	f.Add([]byte(gifOf(9, 9)))
	f.Add([]byte(pngOf(9, 9)))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := File{Data: bytes.NewReader(b), Size: int64(len(b))}
		if n, err := gifFrames(file); err == nil && n < 0 {
			t.Fatal(n)
		}
		if o := orientation(file); o < 1 || o > 8 {
			t.Fatal(o)
		}
		kind := Sniff(b)
		if w, h, known := dimensions(file, kind); known && int64(w)*int64(h) > 1<<16 {
			return // decoding is the standard library's
		}
		_ = Reencode(&bytes.Buffer{}, file, kind)
	})
}
