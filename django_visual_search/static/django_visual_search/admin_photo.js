// Shows the chosen photo. A box drawn on it fills the four fields, which staff type without this script.
// Pictures are drawn, not linked: a policy of "default-src 'self'" allows no data: and blob: addresses.
'use strict';
{
    const form = document.querySelector('.visual-search-form');
    const input = form && form.elements.photo;
    const canvas = form && form.querySelector('.visual-search-canvas');
    const help = form && form.querySelector('.visual-search-canvas-help');
    const fields = form ? ['left', 'top', 'right', 'bottom'].map((name) => form.elements[name]) : [];
    const SIDE = 640, LEAST = 3; // pixels of the preview; percent of the smallest box
    let picture = null, from = null;

    const percent = (event) => {
        const box = canvas.getBoundingClientRect();
        const inside = (value) => Math.min(100, Math.max(0, Math.round(value * 100)));
        return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
    };

    const box = () => fields.map((field, i) => field.value === '' ? (i < 2 ? 0 : 100) : Number(field.value));

    const draw = () => {
        if (!picture) {
            return;
        }
        const context = canvas.getContext('2d'), {width, height} = canvas;
        context.drawImage(picture, 0, 0, width, height);
        const [left, top, right, bottom] = box();
        if (right <= left || bottom <= top || (right - left === 100 && bottom - top === 100)) {
            return;
        }
        const x = left * width / 100, y = top * height / 100;
        const w = (right - left) * width / 100, h = (bottom - top) * height / 100;
        context.fillStyle = 'rgba(0, 0, 0, .55)';
        context.beginPath();
        context.rect(0, 0, width, height);
        context.rect(x, y, w, h);
        context.fill('evenodd');
        context.strokeStyle = '#fff';
        context.lineWidth = 3;
        context.strokeRect(x, y, w, h);
    };

    const show = async () => {
        const file = input.files[0];
        picture = null;
        if (file) {
            try {
                picture = await createImageBitmap(file);
            } catch {
                // A format that this browser can't show, such as HEIC; the server can.
            }
        }
        canvas.hidden = help.hidden = !picture;
        if (picture) {
            const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
            canvas.width = Math.max(1, Math.round(picture.width * scale));
            canvas.height = Math.max(1, Math.round(picture.height * scale));
            help.textContent = canvas.dataset.help;
            draw();
        }
    };

    if (canvas && input && fields.every(Boolean)) {
        input.addEventListener('change', () => {
            fields.forEach((field) => { field.value = ''; });
            show();
        });
        fields.forEach((field) => field.addEventListener('input', draw));
        canvas.addEventListener('pointerdown', (event) => {
            from = percent(event);
            canvas.setPointerCapture(event.pointerId);
            event.preventDefault();
        });
        canvas.addEventListener('pointermove', (event) => {
            if (from) {
                const to = percent(event);
                const values = [0, 1].map((i) => Math.min(from[i], to[i])).concat([0, 1].map((i) => Math.max(from[i], to[i])));
                fields.forEach((field, i) => { field.value = values[i]; });
                draw();
            }
        });
        canvas.addEventListener('pointerup', () => {
            const [left, top, right, bottom] = box();
            if (from && (right - left < LEAST || bottom - top < LEAST)) { // a tap: the whole photo again
                fields.forEach((field) => { field.value = ''; });
            }
            from = null;
            draw();
        });
        show(); // the browser may keep the file over a reload
    }

    // The photo that was searched by, which the server sends back and doesn't keep
    const preview = document.querySelector('.visual-search-preview');
    if (preview) {
        const bytes = Uint8Array.from(atob(preview.dataset.picture.split(',')[1]), (letter) => letter.charCodeAt(0));
        createImageBitmap(new Blob([bytes])).then((bitmap) => {
            preview.getContext('2d').drawImage(bitmap, 0, 0, preview.width, preview.height);
        });
    }
}
