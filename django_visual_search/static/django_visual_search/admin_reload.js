// Shows the progress of a page in place while something goes on; the focus and the place on the page stay.
// Without this script the page reloads by itself.
'use strict';
{
    const {seconds} = document.currentScript.dataset;
    const wait = () => setTimeout(update, 1000 * seconds);

    const put = (old, fresh) => {
        const focused = old.contains(document.activeElement) ? document.activeElement : null;
        const same = focused && [...fresh.querySelectorAll(focused.tagName)].find((one) => (
            one.href === focused.href && one.name === focused.name && one.value === focused.value
        ));
        old.replaceChildren(...fresh.childNodes);
        if (same) {
            same.focus({preventScroll: true});
        }
    };

    const update = async () => {
        try {
            const answer = await fetch(location.href);
            const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
            const fresh = page.getElementById('content-main');
            if (!answer.ok || answer.redirected || !fresh) {
                location.reload(); // logged out, or a fault: the page itself says what
                return;
            }
            put(document.getElementById('content-main'), fresh);
            if (!page.querySelector('script[data-seconds]')) {
                return; // what went on has ended
            }
        } catch {
            // The server is away; it may come back.
        }
        wait();
    };

    wait();
}
